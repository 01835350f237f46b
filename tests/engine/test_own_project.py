"""The engine without the rest of Trainyard, in a project of somebody else's: what its hook names, and nothing more, lies beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard
from trainyard.engine.refusals import refused

PACKAGE = Path(trainyard.__file__).parent
BESIDE = (
    "__init__.py", "clock.py", "errors.py", "files.py", "jsontext.py", "secret.py", "nearest.py", "yamlfile.py", "yamltags.py",
    "yamlaliases.py", "textfile.py",
    "network.py",
)  # fmt: skip
PROGRAM = """
import pulumi
from pulumi_command import local, remote

greeting = local.Command("greeting", create="printf hello-$WHO", environment={"WHO": pulumi.Config().require("who")})
pulumi.export("said", greeting.stdout)
"""
EMBEDDED = """
import dataclasses, sys
from trainyard.engine import cli, hook

class Shell:
    def run(self, command, env, stdin, timeout):
        return hook.CommandExit(0, f"{command} at {where}".encode(), b"")
    def close(self):
        pass

def dial(address, timeout, on_new_key):
    global where
    where = address
    return Shell()

hook.plug(hook.Hook(name="mine-1.0", advice="Ask the platform team.", network=lambda: None, dial=dial))
cli.main(sys.argv[1:])
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project, and an installation that holds the engine and what its hook names."""
    lone = tmp_path / "lone" / "trainyard"
    shutil.copytree(PACKAGE / "engine", lone / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        shutil.copy(PACKAGE / name, lone / name)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: mine\nruntime: python\n")
    (folder / "Pulumi.dev.yaml").write_text("config:\n  mine:who: world\n")
    (folder / "__main__.py").write_text(PROGRAM)
    (folder / "embedded.py").write_text(EMBEDDED)
    (tmp_path / "state").mkdir()
    return folder


def engine(project: Path, *words: str, by: tuple[str, ...] = ("-m", "trainyard.engine")) -> tuple[int, list[dict[str, object]]]:
    """Run the lone engine; Trainyard itself is not to be found by it."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI", "TRAINYARD"))}
    env |= {
        "PYTHONPATH": str(project.parent / "lone"), "PULUMI_BACKEND_URL": f"file://{project.parent / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "p", "PULUMI_HOME": str(project.parent / "home"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, *by, *words, "--stack", "dev", "--json"], cwd=project, env=env, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_a_project_lives_from_its_first_stack_to_its_last_with_the_engine_alone(project: Path) -> None:
    assert engine(project, "init")[0] == 0
    code, events = engine(project, "up", "-y")
    assert code == 0, events
    (outputs,) = [event["outputs"] for event in events if event["event"] == "outputs"]
    assert outputs == {"said": "hello-world"}
    assert engine(project, "destroy", "-y")[0] == 0


def test_what_is_refused_comes_with_the_advice_of_who_asks(project: Path) -> None:
    engine(project, "init")
    (project / "__main__.py").write_text("import pulumi\npulumi.StackReference('other')\n")

    code, events = engine(project, "up", "-y", "--advice", "Ask Ann.")

    assert code == 1 and "StackReference: not supported by the built-in engine" in str(events) and "Ask Ann." in str(events)
    assert refused("hooks").hint == "Use the Pulumi CLI for this project."


def test_a_project_that_embeds_the_engine_plugs_in_its_own_way_to_hosts(project: Path) -> None:
    (project / "__main__.py").write_text(PROGRAM.replace("greeting =", "link = {'host': 'h'}\nfar =").replace(
        'local.Command("greeting", create="printf hello-$WHO", environment={"WHO": pulumi.Config().require("who")})',
        'remote.Command("far", connection=link, create="uptime")').replace("greeting.stdout", "far.stdout"))  # fmt: skip
    own = ("embedded.py",)
    assert engine(project, "init", by=own)[0] == 0
    code, events = engine(project, "up", "-y", by=own)
    assert code == 0 and "uptime at root@h:22" in str(events), events
    state = json.loads(next((project.parent / "state/.pulumi/stacks/mine").glob("dev.json")).read_text())
    assert state["checkpoint"]["latest"]["manifest"]["version"] == "mine-1.0"
