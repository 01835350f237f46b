"""The wrapper that is pushed to Replicate, run as a process and called as cog calls it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trainyard import yamlfile
from trainyard.rehearsal.replicate import cogplay
from trainyard.rehearsal.replicate.routes import INPUTS
from trainyard.shipped import shipped

WRAPPER = shipped("docker/replicate/run.py")
L40S = "1x L40S at $3.5100/h"


def job(folder: Path, script: str, *, gpus: str = "NVIDIA L40S", hardware: str = L40S, kind: str = "trainings", end: datetime | None = None,
        save: float = 20.0) -> subprocess.Popen[str]:  # fmt: skip
    """Start a job with a made-up nvidia-smi."""
    (folder / "bin").mkdir()
    smi = folder / "bin" / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\nprintf '{gpus}'\n")
    smi.chmod(0o755)
    (folder / "run.py").write_text(WRAPPER.read_text(encoding="utf-8").replace("SAVE = 20.0", f"SAVE = {save}"), encoding="utf-8")
    env = {"OPEN": "seen"} | ({"TRAINYARD_END": end.strftime("%Y-%m-%dT%H:%M:%SZ")} if end else {})
    given = {
        "pod": "ty-a", "hardware": hardware, "command": json.dumps(["sh", "-c", script]), "env": json.dumps(env),
        "secrets": json.dumps({"HIDDEN": "hush"}),
    }  # fmt: skip
    (folder / "request.json").write_text(json.dumps({"kind": kind, "input": given}))
    own = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "OUT": str(folder / "out")}
    words = [sys.executable, cogplay.__file__, str(folder)]
    return subprocess.Popen(words, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("kind", ["trainings", "predictions"])
def test_the_command_runs_with_variables_and_secrets_and_ends_the_job(tmp_path: Path, kind: str) -> None:
    started = job(tmp_path, 'echo "$OPEN $HIDDEN" >"$OUT"', kind=kind)
    told = started.communicate(timeout=60)[0]

    assert (started.returncode, (tmp_path / "out").read_text()) == (0, "seen hush\n"), told
    assert "hush" not in told and not (tmp_path / "request.json").exists()


def test_a_command_that_fails_fails_the_job_with_its_exit_code(tmp_path: Path) -> None:
    started = job(tmp_path, "exit 78")
    assert "the run's command has ended with exit code 78" in started.communicate(timeout=60)[0] and started.returncode == 1


@pytest.mark.parametrize("gpus", ["Tesla T4", "NVIDIA L40", "NVIDIA L40S\\nNVIDIA L40S", ""])
def test_other_hardware_than_was_said_runs_nothing(tmp_path: Path, gpus: str) -> None:
    started = job(tmp_path, 'echo ran >"$OUT"', gpus=gpus)
    told = started.communicate(timeout=60)[0]

    assert started.returncode == 1 and not (tmp_path / "out").exists()
    assert re.search("trainyard:gpu says 1x L40S, and the model's hardware is: (Tesla T4|NVIDIA L40|without a GPU)", told)


def test_an_a100_is_one_by_its_makers_name(tmp_path: Path) -> None:
    gpus = "NVIDIA A100-SXM4-80GB\\nNVIDIA A100-SXM4-80GB"
    started = job(tmp_path, "true", gpus=gpus, hardware="2x A100 (80GB) at $10.0800/h")
    assert started.communicate(timeout=60)[0] == "" and started.returncode == 0


def test_a_command_that_outlives_its_lease_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(seconds=600)
    started = job(tmp_path, 'trap "" TERM; sleep 300 & echo $! >"$OUT"; exec sleep 300', end=past, save=0.5)
    told = started.communicate(timeout=60)[0]

    assert "the lease is over" in told and started.returncode == 1
    assert _ended(int((tmp_path / "out").read_text()))


def test_a_job_that_is_cancelled_lets_its_command_save(tmp_path: Path) -> None:
    started = job(tmp_path, 'trap "echo saved >\\"$OUT.saved\\"; exit 0" TERM; echo up >"$OUT"; while :; do sleep 0.1; done')
    until = time.monotonic() + 60
    while not (tmp_path / "out").exists() and time.monotonic() < until:
        time.sleep(0.02)
    started.send_signal(signal.SIGINT)  # cog raises an exception in the function that runs
    started.communicate(timeout=60)

    assert started.returncode != 0 and (tmp_path / "out.saved").read_text() == "saved\n"


def test_cog_is_told_of_the_wrapper_and_its_inputs_are_those_that_are_sent() -> None:
    told = yamlfile.load_map(WRAPPER.with_name("cog.yaml"))
    text = WRAPPER.read_text(encoding="utf-8")

    assert (told["train"], told["predict"]) == ("run.py:train", "run.py:Predictor")
    for signature in re.findall(r"def (?:train|predict)\((.*?)\) ->", text, re.DOTALL):
        assert tuple(name for name in re.findall(r"(\w+):", signature)) == INPUTS


def _ended(pid: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False
