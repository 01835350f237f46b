"""The table of clouds: each row has what it names, and whatever is made from the rows follows them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from tests.settings.packages import Install, installing
from trainyard.clouds import open_cloud
from trainyard.clouds.keys import account_keys
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.settings import page, reader
from trainyard.settings.clouds import BUILT_IN, CloudEntry, entries, problems
from trainyard.settings.table import SETTINGS, known_to
from trainyard.settings.variables import account_keys as all_account_keys
from trainyard.settings.variables import never_sent
from trainyard.shipped import shipped

ROWS = [pytest.param(cloud, id=cloud.name, marks=[pytest.mark.extras(cloud.extra)] if cloud.extra else []) for cloud in BUILT_IN]


@pytest.mark.parametrize("cloud", ROWS)
def test_what_a_row_names_is_there(cloud: CloudEntry) -> None:
    module, _, function = cloud.opener.partition(":")

    assert callable(getattr(import_module(module), function))
    assert not cloud.emulator or import_module(cloud.emulator.partition(":")[0])
    assert shipped(f"Pulumi.{cloud.name}.yaml").is_file()
    assert shipped(f"docs/clouds/{cloud.name}.md").is_file()
    assert bool(cloud.keys) == bool(cloud.key_page), "who lacks a key must hear where one is made"


@pytest.mark.parametrize("cloud", ROWS)
def test_a_row_promises_what_the_adapter_does(cloud: CloudEntry, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.ssh.yaml").write_text("config:\n  trainyard:hosts: [gpu1]\n")  # a cloud of one's own machines names some
    (tmp_path / "Pulumi.slurm.yaml").write_text("config:\n  trainyard:login: cluster\n")
    able = open_cloud(cloud.name, dict.fromkeys(cloud.keys, "key"), places(tmp_path, {})).capabilities

    for promise in ("ssh", "self_terminate", "deadline", "change_markers"):
        assert getattr(able, promise) == getattr(cloud, promise), promise


def test_a_setting_that_not_all_clouds_read_is_read_by_those_whose_rows_name_it() -> None:
    named = {name for cloud in entries().values() for name in cloud.settings}

    assert named == {name for name, setting in SETTINGS.items() if setting.some_clouds}


def test_a_missing_key_is_said_with_where_it_is_made() -> None:
    with pytest.raises(UserError, match="RUNPOD_API_KEY is not set") as caught:
        account_keys("runpod", {})

    assert caught.value.hint == "Make a key in RunPod's console (Settings, API keys), then: invoke setup --stack runpod"


def test_an_unknown_cloud_is_said_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown cloud 'runpot' \(did you mean 'runpod'\?\)"):
        open_cloud("runpot", {}, places(tmp_path, {}))


ROW = """
from trainyard.settings.clouds import CloudEntry
ACME = CloudEntry(name="acme", title="Acme", opener="acme_cloud:open_acme", keys=("ACME_KEY",), key_page="Acme's desk", settings=("spot",))
def open_acme(env, places):
    from trainyard.clouds.local import LocalCloud
    return LocalCloud(places.cloud)
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    folder = tmp_path / "site"
    folder.mkdir()
    with installing(folder, monkeypatch) as install:
        yield install


def test_a_package_adds_a_cloud_and_everything_knows_it(install: Install, tmp_path: Path) -> None:
    install("acme-gpu", {"acme_cloud.py": ROW, "entry_points": "acme = acme_cloud:ACME"})
    (tmp_path / "Pulumi.acme.yaml").write_text("config:\n  trainyard:spot: true\n")

    assert open_cloud("acme", {}, places(tmp_path, {})).list() == []
    assert reader.load(tmp_path, "acme").cloud == "acme"
    assert "ACME_KEY" in never_sent() and all_account_keys()["acme"] == ("ACME_KEY",)
    assert not known_to("tier", "acme") and "acme" in page.schema_text()
    (tmp_path / "Pulumi.acme.yaml").write_text("config:\n  trainyard:tier: SECURE\n  trainyard:pod_secrets: ACME_KEY\n")
    with pytest.raises(UserError, match="ACME_KEY, which opens an account"):
        reader.load(tmp_path, "acme")


@pytest.mark.parametrize(
    ("module", "point", "why"),
    [
        ("raise OSError('no disk')", "acme = broken:ACME", "OSError: no disk"),
        ("raise SystemExit(3)", "acme = broken:ACME", "SystemExit: 3"),
        ("import no_such_package", "acme = broken:ACME", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("ACME = 'a text'", "acme = broken:ACME", "'a text' is no CloudEntry"),
        (ROW, "acne = broken:ACME\nacme = broken:NONE", "its row is called 'acme'"),
        (ROW, "runpod = broken:ACME", "its row is called 'acme'"),
        (ROW.replace('"acme"', '"runpod"'), "runpod = broken:ACME", "there is a cloud of this name"),
    ],
)
def test_a_package_whose_cloud_cannot_be_had_is_named_and_hinders_no_other(
    install: Install, tmp_path: Path, module: str, point: str, why: str
) -> None:
    install("acme-broken", {"broken.py": module, "entry_points": point})
    install("acme-gpu", {"good_cloud.py": ROW.replace("acme", "good"), "entry_points": "good = good_cloud:ACME"})
    name = point.partition(" ")[0]

    assert {"local", "runpod", "good"} <= set(entries()) and (name == "runpod" or name not in entries())
    assert next((problem.package, problem.why) for problem in problems()) == ("acme-broken", why)
    if name != "runpod":
        with pytest.raises(UserError, match="the package acme-broken offers this cloud"):
            open_cloud(name, {}, places(tmp_path, {}))
        (tmp_path / "Pulumi.x.yaml").write_text(f"config:\n  trainyard:cloud: {name}\n")
        with pytest.raises(UserError, match="the package acme-broken offers this cloud"):
            reader.load(tmp_path, "x")


@pytest.mark.parametrize(
    ("opens", "why"),
    [
        ("def open_acme(env, places): return 42", "what it gives is no Cloud: 42"),
        ("def open_acme(env, places): raise OSError('no disk')", "OSError: no disk"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_package_that_cannot_open_its_cloud_is_named_and_keeps_nobody_from_the_others(
    install: Install, tmp_path: Path, opens: str, why: str
) -> None:
    """It ended `reap --all-stacks` before the clouds behind it were asked."""
    row = "from trainyard.settings.clouds import CloudEntry\nACME = CloudEntry(name='acme', title='Acme', opener='lying:open_acme')"
    install("acme-lying", {"acme_row.py": row, "lying.py": opens, "entry_points": "acme = acme_row:ACME"})
    with pytest.raises(UserError, match=f"cloud 'acme' cannot be opened by its package .*{why}"):
        open_cloud("acme", {}, places(tmp_path, {}))


def test_packages_are_not_looked_through_for_a_cloud_of_ours() -> None:
    program = "import sys; from trainyard.settings import clouds, table; clouds.entry('runpod'); print('importlib.metadata' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"


def test_gits_trigger_hands_on_the_key_of_each_cloud_that_there_is() -> None:
    workflow = (Path(__file__).resolve().parents[2] / ".github/workflows/gitops.yml").read_text(encoding="utf-8")
    assert [key for cloud in BUILT_IN for key in cloud.keys if f"{key}: ${{{{ secrets.{key} }}}}" not in workflow] == []


def test_the_page_of_variables_names_an_account_once() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/settings.md").read_text(encoding="utf-8")
    assert page.count("| `IOCLOUD_API_KEY` |") == 1
