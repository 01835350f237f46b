"""Programs whose state must be the CLI's: what it wrote (3.260.0) stands here as data; where it is installed it is asked again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.bench import Bench, cli_found, new_bench, normal_state
from tests.engine.cases import Spec, pod

ENGINES = ["builtin", pytest.param("cli", marks=pytest.mark.cli)]


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest, bench: Bench) -> Any:
    """Run a verb under one of the engines."""
    if request.param == "cli" and cli_found() is None:
        pytest.skip("NO PULUMI CLI on PATH: what it does was not asked again")
    return bench.engine if request.param == "builtin" else bench.cli


def entry(bench: Bench, name: str, field: str = "inputs") -> Any:
    """Return a field of a resource in the state, secrets marked."""
    rows = [row for row in normal_state(bench.latest())["resources"] if row["urn"].endswith(f"::{name}")]
    assert len(rows) == 1, [row["urn"] for row in rows]
    return rows[0].get(field)


def ignoring(path: str, **props: Any) -> Spec:
    return [pod("a", {"ignore_changes": [path]}, **props)]


def secret(value: Any) -> dict[str, Any]:
    return {"$secret": value}


KEPT = [
    # (path, before, after, the property that the CLI then has)
    ("p.pw", secret({"pw": "hush", "x": 1}), {"pw": "other", "x": 2}, {"pw": {"secret": "hush"}, "x": 2}),
    ("p.pw", secret({"pw": "hush"}), secret({"pw": "other"}), {"secret": {"pw": "hush"}}),
    ("p.pw", {"pw": secret("hush")}, {"pw": "other"}, {"pw": {"secret": "hush"}}),
    ("p[0]", secret(["hush", "b"]), ["other", "c"], [{"secret": "hush"}, "c"]),
    ("p[*]", secret(["hush", "b"]), ["other", "c"], [{"secret": "hush"}, {"secret": "b"}]),
    ("p[*].k", secret([{"k": "hush"}]), [{"k": "other", "l": 1}], [{"k": {"secret": "hush"}, "l": 1}]),
    ("p.*", secret({"k": "hush"}), {"k": "other", "l": 1}, {"k": {"secret": "hush"}}),
    ("p[*]", [1, 2], [4, 5, 6], [1, 2, 6]),
    ("p[*]", [1, 2, 3], [4, 5], [1, 2]),
    ("p[*]", [1, 2, 3], [], []),
    ("p[1]", [1, 2], [4], [4]),
    ("p[2]", [1, 2], [4, 5], [4, 5]),
    ("p[*].x", [{"x": 1}, {"x": 2}], [{"x": 4}, {"x": 5}, {"x": 6}], [{"x": 1}, {"x": 2}, {"x": 6}]),
    ("p[*].x", [{"x": 1}, {"x": 2}], [{"x": 4}], [{"x": 1}]),
    ("p.*.x", {"a": {"x": 1}}, {"a": {"x": 4}, "b": {"x": 5}}, {"a": {"x": 1}, "b": {"x": 5}}),
    ("p.*.x", {"a": {"x": 1}, "b": {"x": 2}}, {"b": {"x": 5}}, None),  # its maps have no order: once so, once so
    ("p.a.x", {"a": {"x": 1}}, {"a": 3}, {"a": 3}),
    ("p.a.x", {"a": 3}, {"a": {"x": 1}}, {"a": {}}),
    ('p["a.b"]', {"a.b": 1}, {"a.b": 2, "c": 3}, {"a.b": 1, "c": 3}),
    ("p.", {"a": 1}, {"a": 2}, {"a": 2}),
    ("p[x]", [1], [2], [2]),
]


def test_what_is_ignored_keeps_its_old_value_and_its_secrecy(run: Any, bench: Bench) -> None:
    before = [pod(f"a{n}", {"ignore_changes": [path]}, p=old) for n, (path, old, _, _) in enumerate(KEPT)]
    after = [pod(f"a{n}", {"ignore_changes": [path]}, p=new, label="2") for n, (path, _, new, _) in enumerate(KEPT)]

    for spec in (before, after):
        ended = run("up", spec=spec)
        assert ended.code == 0, ended.text

    found = {n: entry(bench, f"a{n}")["p"] for n, row in enumerate(KEPT) if row[3] is not None}
    assert found == {n: row[3] for n, row in enumerate(KEPT) if row[3] is not None}
    assert "hush" not in (bench.state / ".pulumi/stacks/px/dev.json").read_text()


ON_CHANGES = [
    ("p.n.x", {"n": {"x": 1, "y": 1}}, {"n": {"x": 2, "y": 1}}, True),
    ("p.n.x", {"n": {"x": 1, "y": 1}}, {"n": {"x": 1, "y": 2}}, False),
    ("p.n", {"n": {"x": 1}}, {"n": {"x": 2}}, True),
    ("p.n.x", {"n": {}}, {"n": {"x": 2}}, True),
    ("p.n.x", {"n": {"x": 1}}, {"n": {}}, True),
    ("p.n.x", {"n": {"x": None}}, {"n": {}}, False),
    ("p[*].x", [{"x": 1}], [{"x": 2}], True),
    ("p[1]", [1], [1, 2], True),
    ("p[0]", [1], [1, 2], False),
    ("p.n.x", secret({"n": {"x": 1}}), secret({"n": {"x": 2}}), True),
    ('p["a b"]', {"a b": 1}, {"a b": 2}, True),
    ("*", {"n": 1}, {"n": 2}, True),
]


def test_a_change_below_the_top_level_replaces_where_the_provider_leaves_the_comparison_to_the_engine(run: Any, bench: Bench) -> None:
    before = [pod(f"a{n}", {"replace_on_changes": [path]}, p=old, vague=True) for n, (path, old, _, _) in enumerate(ON_CHANGES)]
    after = [pod(f"a{n}", {"replace_on_changes": [path]}, p=new, vague=True) for n, (path, _, new, _) in enumerate(ON_CHANGES)]
    assert run("up", spec=before).code == 0
    bench.calls()

    ended = run("up", spec=after)

    assert ended.code == 0, ended.text
    calls = bench.calls()
    assert [f"create a{n}" in calls for n in range(len(ON_CHANGES))] == [row[3] for row in ON_CHANGES]


def test_an_invoke_that_fails_is_the_program_s_affair(run: Any, bench: Bench) -> None:
    code = "try:\n    pulumi.runtime.invoke('toy:index:say', {'crash': True})\nexcept Exception:\n    Pod('other', {})\n"

    ended = run("up", spec=[{"kind": "python", "name": "p", "code": code}])

    assert ended.code == 0, ended.text
    assert bench.names() == ["other"]


def test_an_invoke_whose_failure_nobody_catches_fails_the_program(run: Any, bench: Bench) -> None:
    spec: Spec = [{"kind": "python", "name": "p", "code": "pulumi.runtime.invoke('toy:index:say', {'crash': True})"}]

    ended = run("up", spec=spec)

    assert ended.code != 0 and "the cloud does not answer" in ended.text


@pytest.mark.parametrize("names", ['["toy"]', '["*"]', '[" toy "]'])
def test_a_default_provider_that_is_switched_off_serves_nothing(run: Any, bench: Bench, names: str) -> None:
    bench.settings(f"config:\n  pulumi:disable-default-providers: {names}\n")
    eu: Spec = [{"kind": "provider", "name": "eu", "props": {"region": "eu-1"}}, pod("p", {"provider": "eu"})]

    assert run("up", spec=[pod("a")]).code != 0
    assert bench.things() == []
    assert run("up", spec=eu).code == 0 and bench.names() == ["p"]


def test_another_package_s_default_provider_stays(run: Any, bench: Bench) -> None:
    bench.settings("config:\n  pulumi:disable-default-providers: [aws]\n")
    assert run("up", spec=[pod("a")]).code == 0


def test_the_address_of_a_plugin_is_kept_with_its_default_provider(run: Any, bench: Bench) -> None:
    assert run("up", spec=[pod("a", {"plugin_download_url": "https://example.org/x?y"})]).code == 0

    provider = entry(bench, "a", "provider").rpartition("::")[0]

    assert provider.endswith("::default_https_/example.org/x_y")
    rows = [row for row in bench.latest()["resources"] if row["urn"] == provider]
    assert rows[0]["inputs"] == {"__internal": {"pluginDownloadURL": "https://example.org/x?y"}}
    assert run("up").code == 0 and run("destroy").code == 0


def test_hidden_diffs_are_kept_in_state(run: Any, bench: Bench) -> None:
    assert run("up", spec=[pod("a", {"hide_diffs": ["label", 'conf["a b"].c[0]']}, label="1")]).code == 0
    assert entry(bench, "a", "hideDiff") == ["label", 'conf["a b"].c[0]']


LEAKS: Spec = [
    pod("a", leak="!hush-hush"),
    {"kind": "python", "name": "p", "code": "import sys\ndef tell(_):\n    for f in (sys.stdout, sys.stderr):\n"
     "        print('program says', 'hush-' + 'hush', file=f, flush=True)\nmade['a'].ip.apply(tell)"},
    {"kind": "export", "name": "plain", "value": "hush-hush"},
    {"kind": "export", "name": "inside", "value": {"a": ["see hush-hush"]}},
]  # fmt: skip


@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "json"])
def test_a_secret_is_masked_wherever_it_is_printed(bench: Bench, words: tuple[str, ...]) -> None:
    bench.spec(LEAKS)

    done = subprocess.run(
        [sys.executable, "-m", "trainyard.engine", "up", "-s", "dev", "-y", *words], cwd=bench.root, env=bench.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "hush" not in done.stdout + done.stderr
    assert "program says [secret]" in done.stdout and "program says [secret]" in done.stderr
    assert "toy says [secret]" in done.stdout and "see [secret]" in done.stdout
