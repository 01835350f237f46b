"""Operations from outside: signals, plugins that die, locks, secrets, wrong passphrases, damaged files, export and import."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.bench import Bench, new_bench
from tests.engine.cases import SMALL, Spec, edit, pod
from trainyard.errors import UserError


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


KEY = """
key = chr(10).join(["hush-first-line-of-a-key", "hush-second-line-of-it", ""])
made['k'] = Pod('k', {'label': pulumi.Output.secret(key)})
made['k'].ip.apply(lambda _: print(key))
"""


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"'{text}' never came to {path.name}")


def test_the_first_signal_awaits_and_records_the_running_step(bench: Bench) -> None:
    bench.faults(("create", "a", "slow"))
    pid, stream = bench.start("up", spec=SMALL)
    wait_for(bench.cloud / "calls.log", "create a")
    os.kill(pid, signal.SIGTERM)
    ended = bench.wait(pid, stream)
    assert (ended.code, ended.summary["result"], bench.names()) == (1, "interrupted", ["a"]), ended.text
    assert not bench.latest().get("pending_operations") and not bench.backend.locks("px", "dev")
    assert bench.calls() == ["create a"]


def test_the_second_signal_ends_at_once_and_what_it_left_is_adopted(bench: Bench) -> None:
    bench.faults(("create", "a", "hang-after"))
    pid, stream = bench.start("up", spec=SMALL)
    wait_for(bench.cloud / "calls.log", "create a")
    while not bench.things():
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(pid, signal.SIGINT)
    assert bench.wait(pid, stream).code == 1
    assert [o["type"] for o in bench.latest()["pending_operations"]] == ["creating"]
    bench.calls()
    ended = bench.engine("up", spec=SMALL)
    assert ended.code == 0, ended.text
    assert "create a" not in bench.calls() and len(bench.things()) == 2
    assert any(e.get("op") == "adopt" and e["status"] == "done" for e in ended.events)


def test_a_program_that_hangs_after_a_failure_does_not_hold_the_engine(bench: Bench) -> None:
    stuck = (
        "import asyncio, time\nasync def wait(_):\n    await asyncio.sleep(0.7)\n    time.sleep(600)\n"
        "pulumi.Output.from_input(1).apply(wait)"
    )
    bench.faults(("create", "a", "slow-error"))
    begin = time.monotonic()
    ended = bench.engine("up", spec=[pod("a"), {"kind": "python", "name": "p", "code": stuck}])
    assert ended.code == 1 and "left behind" in ended.text
    assert time.monotonic() - begin < 200 and not bench.backend.locks("px", "dev")


@pytest.mark.parametrize(("kind", "there"), [("die-before", 0), ("die-after", 1)])
def test_a_plugin_that_dies_is_named_and_its_create_is_settled_by_the_next_run(bench: Bench, kind: str, there: int) -> None:
    bench.faults(("create", "a", kind))
    ended = bench.engine("up", spec=[pod("a")])
    assert (
        ended.code == 1
        and "the plugin of package 'toy' died during Create of urn:pulumi:dev::px::toy:index:Pod::a (exit code 3)" in ended.errors()
    )
    assert [o["type"] for o in bench.latest()["pending_operations"]] == ["creating"]
    assert [r["name"] for r in next(e for e in ended.events if e["event"] == "remaining")["resources"]] == ["a"]
    assert len(bench.things()) == there
    assert bench.engine("destroy").code == 0
    assert bench.things() == [] and not bench.latest().get("pending_operations")


def test_what_a_dying_plugin_deleted_all_the_same_is_made_again_when_it_is_asked_for_again(bench: Bench) -> None:
    assert bench.engine("up", spec=[pod("a")]).code == 0
    bench.faults(("delete", "a", "die-after"))
    assert bench.engine("up", spec=[]).code == 1 and bench.things() == []
    assert [o["type"] for o in bench.latest()["pending_operations"]] == ["deleting"]
    assert bench.engine("up", spec=[pod("a")]).code == 0
    assert len(bench.things()) == 1 and bench.names() == ["a"] and not bench.latest().get("pending_operations")


@pytest.mark.parametrize(("kind", "words"), [("no-id", "returned no id"), ("unknown", "returned unknown values")])
def test_a_plugin_that_lies_is_named_and_nothing_is_lost(bench: Bench, kind: str, words: str) -> None:
    bench.faults(("create", "a", kind))
    ended = bench.engine("up", spec=[pod("a")])
    assert ended.code == 1 and words in ended.errors() and "'toy'" in ended.errors()
    assert bench.engine("destroy").code == 0
    assert bench.things() == []


def test_an_up_stops_when_it_cannot_be_found_out_what_an_earlier_run_left(bench: Bench) -> None:
    bench.faults(("create", "a", "die-after"))
    bench.engine("up", spec=[pod("a")])
    bench.faults(("read", "a", "error"))
    bench.calls()
    ended = bench.engine("up", spec=[pod("a"), pod("b")])
    assert ended.code == 1 and "it cannot be found out whether it exists" in ended.errors()
    assert bench.calls() == ["read a"] and bench.latest()["pending_operations"]


def test_a_plugin_that_is_missing_is_named_with_the_places_looked_at(bench: Bench) -> None:
    (bench.root / "Pulumi.yaml").write_text("name: px\nruntime: python\n")
    ended = bench.engine("up", spec=[pod("a")])
    assert ended.code == 1 and "there is no plugin for package 'toy'" in ended.errors() and "resource-toy" not in bench.things()


def test_a_plugin_from_the_cache_is_found_by_its_exact_version(bench: Bench) -> None:
    (bench.root / "Pulumi.yaml").write_text("name: px\nruntime: python\n")
    folder = bench.root / "home/plugins/resource-toy-v1.2.3"
    folder.mkdir(parents=True)
    shutil.copy(bench.plugin / "pulumi-resource-toy", folder)
    spec: Spec = [pod("a", {"version": "1.2.3"})]
    assert bench.engine("up", spec=spec).code == 0
    provider = next(r for r in bench.latest()["resources"] if r["type"] == "pulumi:providers:toy")
    assert provider["urn"].endswith("::default_1_2_3") and provider["inputs"] == {"__internal": {}, "version": "1.2.3"}
    assert "there is no plugin for package 'toy 1.2.4'" in bench.engine("up", spec=[pod("a", {"version": "1.2.4"})]).errors()
    assert bench.engine("destroy").code == 0


def test_a_locked_stack_exits_as_the_cli_does(bench: Bench) -> None:
    folder = bench.state / ".pulumi/locks/organization/px/dev"
    folder.mkdir(parents=True)
    lock = {"pid": os.getpid(), "username": "u", "hostname": socket.gethostname(), "timestamp": "2999-01-01T00:00:00Z"}
    (folder / "a.json").write_text(json.dumps(lock))
    assert bench.engine("up", spec=[]).code == 255
    assert bench.engine("preview", spec=[]).code == 0
    assert bench.engine("cancel").code == 255 and (folder / "a.json").exists()


def test_a_wrong_passphrase_changes_nothing(bench: Bench) -> None:
    bench.engine("up", spec=SMALL)
    before = bench.backend.checkpoint_path("px", "dev").read_bytes()
    bench.env["PULUMI_CONFIG_PASSPHRASE"] = "wrong"
    for verb in ("preview", "up", "refresh", "destroy"):
        ended = bench.engine(verb)
        assert ended.code == 1 and "passphrase is wrong" in ended.text
    del bench.env["PULUMI_CONFIG_PASSPHRASE"]
    assert "set PULUMI_CONFIG_PASSPHRASE" in bench.engine("up").text
    assert bench.backend.checkpoint_path("px", "dev").read_bytes() == before


def test_a_damaged_state_is_left_alone_and_its_backup_named(bench: Bench) -> None:
    bench.engine("up", spec=SMALL)
    path = bench.backend.checkpoint_path("px", "dev")
    path.write_bytes(path.read_bytes()[:-40])
    damaged = path.read_bytes()
    ended = bench.engine("destroy")
    assert ended.code == 1 and "damaged" in ended.text and "dev.json.bak" in ended.text
    assert path.read_bytes() == damaged and len(bench.things()) == 2


def test_a_secret_is_nowhere_in_the_clear(bench: Bench) -> None:
    spec: Spec = [
        {"kind": "config", "name": "c", "key": "apikey"},
        pod("a", token="!hush-token", label="!hush-label"),
        {"kind": "export", "name": "token", "value": "!hush-export"},
        {"kind": "export", "name": "plain", "value": "it repeats hush-export"},
        {"kind": "print", "name": "p", "text": "the program prints"},
        {"kind": "python", "name": "k", "code": KEY},
        {"kind": "python", "name": "q", "code": "made['a'].ip.apply(lambda _: pulumi.log.warn('the log says hush-token'))"},
    ]
    bench.settings((Path(__file__).parent / "golden/Pulumi.dev.yaml").read_text())
    bench.faults(("create", "a", "error"))
    texts = [bench.engine("preview", spec=spec).text, bench.engine("up", spec=spec).text]
    up = bench.engine("up", spec=spec)
    assert up.code == 0, up.text
    texts += [up.text, bench.engine("up", spec=edit(spec, "a", label="!hush-other")).text, bench.engine("outputs").text]
    assert any("the program prints" in e.get("message", "") for e in up.events)
    assert '"plain": "it repeats [secret]"' in texts[-1]
    for path in bench.state.rglob("*"):
        texts.append(path.read_text().replace("it repeats hush-export", "") if path.is_file() else "")
    hidden = ("hush-token", "hush-label", "hush-export", "hush-other", "s3cr3t-value", "pw-a", "hush-first-line", "hush-second-line")
    assert [word for word in hidden if any(word in text for text in texts)] == []
    assert '"hush-export"' in bench.engine("outputs", "--show-secrets").text
    bench.engine("destroy")


def test_a_preview_shows_the_changes_and_writes_nothing(bench: Bench) -> None:
    bench.engine("up", spec=SMALL)
    before = bench.backend.checkpoint_path("px", "dev").read_bytes()
    bench.calls()
    ended = bench.engine("preview", spec=[*edit(SMALL, "a", gpu="2")[:2], pod("new")])
    assert ended.code == 0, ended.text
    done = {(e["op"], e["name"]): e["keys"] for e in ended.events if e["event"] == "step" and e["status"] in ("done", "planned")}
    assert done["create-replacement", "a"] == ["gpu"] and done["update", "b"] == ["host"] and ("create", "new") in done
    assert bench.calls() == [] and bench.backend.checkpoint_path("px", "dev").read_bytes() == before


def test_what_is_exported_can_be_imported_again(bench: Bench) -> None:
    bench.engine("up", spec=[pod("a", token="!hush-token")])
    for words in ([], ["--show-secrets"]):
        path = bench.root / "export.json"
        assert bench.engine("export", "--file", str(path), *words).code == 0
        assert ("hush-token" in path.read_text()) == bool(words)
        before = bench.normal()
        assert bench.engine("import", "--file", str(path)).code == 0
        assert bench.normal() == before
        assert "hush-token" not in bench.backend.checkpoint_path("px", "dev").read_text()
    path.write_text(path.read_text().replace("urn:pulumi:dev::", "urn:pulumi:other::"))
    assert "does not belong to stack dev" in bench.engine("import", "--file", str(path)).text
    path.write_text("{}")
    assert bench.engine("import", "--file", str(path)).code == 2
    assert bench.engine("destroy").code == 0


def test_history_tells_the_operations_newest_first(bench: Bench) -> None:
    bench.engine("up", spec=[pod("a")])
    bench.faults(("delete", "a", "error"))
    bench.engine("destroy")
    entries = json.loads(bench.engine("history").text)["entries"]
    assert [(e["kind"], e["result"]) for e in entries] == [("destroy", "failed"), ("update", "succeeded")]
    assert entries[1]["changes"]["create"] == 3


def own_interpreter(bench: Bench) -> None:
    """Give the program a virtual environment of its own."""
    venv = bench.root / "own/bin"
    venv.mkdir(parents=True)
    (venv / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (venv / "python").chmod(0o755)
    text = (bench.root / "Pulumi.yaml").read_text()
    (bench.root / "Pulumi.yaml").write_text(text.replace("  name: python\n", "  name: python\n  options:\n    virtualenv: own\n"))


def test_a_program_with_an_interpreter_of_its_own_runs_in_a_process_of_its_own(bench: Bench) -> None:
    own_interpreter(bench)
    ended = bench.engine("up", spec=[*SMALL, {"kind": "print", "name": "p", "text": "from afar"}])
    assert ended.code == 0 and "from afar" in ended.text, ended.text
    assert bench.engine("destroy").code == 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("Pod('c', {'host': made['a'].ip}, pulumi.ResourceOptions(import_='x'))", "import of existing resources: not supported"),
        ("Pod('c', {}, pulumi.ResourceOptions(transforms=[lambda a: None]))", "transforms: not supported"),
        ("pulumi.ResourceHook('h', lambda a: None)", "resource hooks: not supported"),
        ("pulumi.StackReference('organization/px/x')", "StackReference: not supported"),
        ("import pulumi_command as c\nc.local.Command('c', create='x', asset_paths=['*'])", "'assetPaths' of command:local:Command needs"),
    ],
)
def test_a_program_with_an_interpreter_of_its_own_is_refused_before_anything_exists(bench: Bench, code: str, words: str) -> None:
    own_interpreter(bench)
    ended = bench.engine("up", spec=[*SMALL, {"kind": "python", "name": "p", "code": code}])
    assert ended.code == 1 and words in ended.errors() and "__main__.py:" in ended.errors(), ended.text
    assert "Traceback" not in ended.text and "site-packages" not in ended.text
    assert bench.things() == [] and bench.calls() == []


WAYS_OUT = [
    ("raise KeyboardInterrupt", "the program was interrupted (KeyboardInterrupt)"),
    ("import os; os._exit(3)", "the program ended itself with"),
    ("import os; os._exit(0)", "the program ended itself with code 0"),
    ("import sys; sys.exit(4)", "the program ended itself with code 4"),
    ("raise SystemExit('enough')", "the program ended itself with code enough"),
    ("1 / 0", "ZeroDivisionError"),
]


@pytest.mark.parametrize(
    ("code", "words", "late", "own"),
    [*((*way, late, False) for way in WAYS_OUT[:4] for late in (False, True)), *((*way, True, True) for way in WAYS_OUT)],
)
def test_a_program_that_ends_itself_fails_with_a_clear_word_and_loses_nothing(
    bench: Bench, code: str, words: str, late: bool, own: bool
) -> None:
    if own:
        own_interpreter(bench)
    assert bench.engine("up", spec=SMALL).code == 0
    text = f"def last(_):\n    {code}\nmade['a'].ip.apply(last)" if late else code

    ended = bench.engine("up", spec=[*SMALL, {"kind": "python", "name": "p", "code": text}])

    assert ended.code == 1 and words in ended.errors(), ended.text
    assert ended.summary["result"] == "failed" and "trainyard/engine" not in ended.errors()
    assert bench.names() == ["a", "b"] and not bench.backend.locks("px", "dev") and not bench.latest().get("pending_operations")


def test_what_is_under_way_when_the_program_ends_itself_is_awaited_and_recorded(bench: Bench) -> None:
    bench.faults(("create", "b", "slow"))
    code = "import os, time, threading\nmade['a'].ip.apply(lambda _: (time.sleep(0.7), os._exit(3)))"
    ended = bench.engine("up", spec=[pod("a"), pod("b"), {"kind": "python", "name": "p", "code": code}])
    assert ended.code == 1 and bench.names() == ["a", "b"] and not bench.latest().get("pending_operations"), ended.text


def test_a_child_of_the_program_may_leave_as_it_likes(bench: Bench) -> None:
    code = "import os\npid = os.fork()\nif pid == 0:\n    os._exit(0)\nassert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0"
    assert bench.engine("up", spec=[*SMALL, {"kind": "python", "name": "p", "code": code}]).code == 0


def test_a_script_must_say_yes(bench: Bench) -> None:
    pid, stream = bench.start("up", spec=[])
    assert bench.wait(pid, stream).code == 0
    from trainyard.engine import cli

    parsed = cli._parser().parse_args(["destroy", "--stack", "dev", "--json"])
    with pytest.raises(UserError, match="pass -y"):
        cli._ask(parsed)


def test_settings_reach_the_program_as_from_the_cli(bench: Bench) -> None:
    bench.settings("config:\n  px:n: 3\n  px:f: 0.5\n  px:b: true\n  px:l: [1, two]\n  px:o: {a: {b: 1}}\n  toy:region: eu\n")
    code = (
        "c = pulumi.Config()\nassert (c.require_int('n'), c.require_float('f'), c.require_bool('b')) == (3, 0.5, True)\n"
        "assert c.require_object('l') == [1, 'two'] and c.require_object('o') == {'a': {'b': 1}}\nassert c.get('none') is None\n"
    )
    ended = bench.engine("up", spec=[pod("a"), {"kind": "python", "name": "p", "code": code}])
    assert ended.code == 0, ended.text
    assert json.loads((bench.cloud / f"{bench.things()[0]}.json").read_text())["region"] == "eu"
    bench.engine("destroy")
