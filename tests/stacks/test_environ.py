"""The environment of engines: it names the Python and the repository that are meant, and binds no shell to a repository."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from trainyard.config import places
from trainyard.stacks.environ import child_env, leave_other_repository, pulumi_exports


def test_program_and_plugin_get_the_python_of_this_process_first_on_path(tmp_path: Path) -> None:
    env = child_env(places(tmp_path, {}), {"PATH": "/usr/bin"}, "local")

    assert env["PATH"] == f"{Path(sys.prefix) / 'bin'}{os.pathsep}/usr/bin"
    assert env["TRAINYARD_PROVIDER_PYTHON"] == sys.executable
    assert env["TRAINYARD_PROVIDER_PROJECT"] == str(tmp_path)


def test_an_engine_has_the_keys_of_its_clouds_account_and_of_no_other(tmp_path: Path) -> None:
    keys = {"IOCLOUD_API_KEY": "a", "VAST_API_KEY": "b"}

    env = {cloud: child_env(places(tmp_path, {}), keys, cloud) for cloud in ("ionet", "ionet-vm", "vast", None)}

    assert {cloud: [name for name in keys if some[name]] for cloud, some in env.items()} == {
        "ionet": ["IOCLOUD_API_KEY"], "ionet-vm": ["IOCLOUD_API_KEY"], "vast": ["VAST_API_KEY"], None: [],
    }  # fmt: skip


def test_a_shell_that_goes_on_to_another_repository_leaves_the_state_of_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    exports = pulumi_exports(places(first, {}), {})

    there, here = dict(exports), dict(exports)
    leave_other_repository(there, second)
    leave_other_repository(here, first)

    assert "PULUMI_BACKEND_URL" not in there and pulumi_exports(places(second, {}), there)["PULUMI_BACKEND_URL"].endswith(
        "/second/.trainyard/state"
    )
    assert here["PULUMI_BACKEND_URL"] == exports["PULUMI_BACKEND_URL"]


def test_a_backend_of_a_team_is_kept_in_every_repository(tmp_path: Path) -> None:
    team = {"PULUMI_BACKEND_URL": "s3://state"}
    exports = pulumi_exports(places(tmp_path / "first", {}), team)

    leave_other_repository(exports, tmp_path / "second")

    assert exports["PULUMI_BACKEND_URL"] == "s3://state"
