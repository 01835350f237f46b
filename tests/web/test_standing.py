"""What makes the server stand on a machine of a team's: the unit, the image and the composition say what the command takes."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import shown
from tests.web.conftest import ROOT

FOLDER = ROOT / "docker" / "server"


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    return parsed


@pytest.fixture(scope="module")
def dockerfile() -> list[list[str]]:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def unit(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {"TRAINYARD_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "trainyard", "serve", "--unit", *words]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)


def test_a_unit_serves_as_the_command_does_and_keeps_no_link_in_the_journal(tmp_path: Path) -> None:
    text = unit(tmp_path, "--host=10.0.0.5", "--behind-proxy=10.0.0.7", "--no-schedule").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert shlex.split(line)[3:] == ["serve", "--host=10.0.0.5", "--port=8420", "--behind-proxy=10.0.0.7", "--no-link", "--no-schedule"]
    assert "\nNoNewPrivileges=yes\n" in text and "\nKillMode=process\n" in text

    refused = unit(tmp_path, "--host=10.0.0.5")
    assert (refused.returncode, refused.stdout) == (2, "") and "without TLS" in refused.stderr

    if shutil.which("systemd-analyze"):
        (tmp_path / "trainyard-serve.service").write_text(text)
        judged = ["systemd-analyze", "verify", "--user", str(tmp_path / "trainyard-serve.service")]
        env = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(judged, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_the_composition_serves_with_options_that_there_are(composed: dict[str, Any]) -> None:
    words = composed["services"]["server"]["command"]
    page, verbs = f"```sh\ninvoke {shlex.join(words)}\n```", shown.tasks().ns
    assert [shown.problem(one, verbs) for one in shown.in_page(FOLDER / "compose.yaml", page)] == [None]
    subnet = composed["networks"]["inside"]["ipam"]["config"][0]["subnet"]
    assert f"--behind-proxy={subnet}" in words and "--no-link" in words


def test_secrets_come_by_file_and_what_is_named_is_there(composed: dict[str, Any]) -> None:
    services = composed["services"]
    used = {name for service in services.values() for name in service.get("secrets", [])}
    assert used == set(composed["secrets"]) and all(set(each) == {"file"} for each in composed["secrets"].values())
    told = {name: value for service in services.values() for name, value in service.get("environment", {}).items()}
    assert all("/run/secrets/" in str(value) for name, value in told.items() if "PASSWORD" in name or "LEDGER" in name)
    volumes = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert volumes == set(composed["volumes"])
    assert {name for name, service in services.items() if "ports" in service} == {"proxy"}
    build = services["server"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()


def test_the_image_has_no_root_a_health_check_and_all_that_it_copies(dockerfile: list[list[str]]) -> None:
    told = {word: rest for word, rest in dockerfile}
    assert told["USER"].split(":")[0].isdigit() and told["USER"] != "0"
    assert "/healthz" in told["HEALTHCHECK"] and "8420" in told["EXPOSE"]
    sources = [name for word, rest in dockerfile if word == "COPY" and "--from" not in rest for name in rest.split()[:-1]]
    assert [name for name in sources if not name.startswith("--") and not list(ROOT.glob(name))] == []
    assert "--require-hashes" in " ".join(rest for word, rest in dockerfile if word == "RUN")
