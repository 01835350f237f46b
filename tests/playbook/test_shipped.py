"""The playbooks of the project, run over a real SSH server: they work, can be repeated, and refuse unfit pods."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.playbook.conftest import Run
from tests.remote.proxy import Proxy
from tests.remote.sshd import Server
from trainyard import playbook
from trainyard.errors import Unreachable
from trainyard.playbook import Host, Report
from trainyard.playbook.__main__ import main
from trainyard.remote import jobs
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import LocalTransport, SshTransport, Transport, connect
from trainyard.secret import Secret

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"


@dataclass(frozen=True)
class Lab:
    """A workspace, a bundle and data, as a run makes them."""

    workspace: Path
    variables: dict[str, object]

    def play(self, name: str, transport: Transport, lines: list[str] | None = None, **more: object) -> Report:
        reporter = playbook.TextReporter(lines.append) if lines is not None else None
        book = playbook.load(PLAYBOOKS / f"{name}.yml")
        return playbook.run(book, {"pod": Host(transport)}, {**self.variables, **more}, reporter=reporter)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "run.sh").write_text('echo "$WORD" >>"$WORKSPACE/starts"; cat "$WORKSPACE/input/rows.jsonl"\n')
    (bundle / "train.py").write_text("print()\n")
    subprocess.run("sha256sum run.sh train.py >bundle.sha256", shell=True, cwd=bundle, check=True)
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n' * 1000)
    workspace = tmp_path / "ws"
    data = {"src": str(tmp_path / "rows.jsonl"), "dest": "rows.jsonl", "sha256": sha256(tmp_path / "rows.jsonl")}
    variables: dict[str, object] = {
        "workspace": str(workspace), "bundle_dir": str(bundle), "bundle_sha256": sha256(bundle / "bundle.sha256"), "data": [data],
        "job_env": {"WORKSPACE": str(workspace), "WORD": "be gin"}, "min_disk_gb": 0.001, "gpu_count": 0, "lease_end": None,
        "python_needed": True, "expect_watchdog": False,
    }  # fmt: skip
    return Lab(workspace, variables)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed(report: Report) -> int:
    return sum(tally.changed for tally in report.tallies.values())


def wait(lab: Lab) -> jobs.JobStatus:
    deadline = time.monotonic() + 90
    while not (state := jobs.status(LocalTransport(), str(lab.workspace / "job"))).ended:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return state


def test_train_starts_one_job_and_a_second_run_changes_nothing(lab: Lab, ssh: SshTransport) -> None:
    first = lab.play("train", ssh)
    assert first.reason() == "" and changed(first) == 4
    assert wait(lab).exit_code == 0
    second = lab.play("train", ssh)
    assert second.reason() == "" and changed(second) == 0
    assert (lab.workspace / "starts").read_text() == "be gin\n"
    assert (lab.workspace / "job/log").read_text() == (lab.workspace / "input/rows.jsonl").read_text()


def test_a_secret_reaches_the_job_and_no_line_that_is_shown(lab: Lab, ssh: SshTransport) -> None:
    env, shown = lab.variables["job_env"], list[str]()
    assert isinstance(env, dict)
    told = {**lab.variables, "job_env": {**env, "WORD": Secret("hf_s3cret")}}
    reporter = playbook.TextReporter(shown.append, verbose=True)
    report = playbook.run(playbook.load(PLAYBOOKS / "train.yml"), {"pod": Host(ssh)}, told, reporter=reporter, diff=True)
    assert report.reason() == "" and wait(lab).exit_code == 0
    assert (lab.workspace / "starts").read_text() == "hf_s3cret\n" and "hf_s3cret" not in "\n".join(shown)


def test_train_cut_off_anywhere_and_run_again_starts_one_job(lab: Lab, server: Server) -> None:
    # Each time the link is cut a little later, until one run gets through.
    proxy = Proxy(server.address)
    outcomes = []
    for allowed in range(2_600, 40_000, 600):
        proxy.cut_after = proxy.carried + allowed
        with Reconnecting(_once(proxy)) as transport:
            outcomes.append(lab.play("train", transport).exit_code)
        if outcomes[-1] == 0:
            break
    proxy.close()
    assert outcomes[-1] == 0 and set(outcomes[:-1]) == {5} and len(outcomes) > 4
    assert wait(lab).exit_code == 0
    assert (lab.workspace / "starts").read_text() == "be gin\n"


def _once(proxy: Proxy) -> Callable[[], Transport]:
    """Return a dialler that connects once: a run whose link is cut must not heal itself here."""
    left = iter([proxy.address])

    def dial() -> Transport:
        address = next(left, None)
        if address is None:
            raise Unreachable("the link was cut")
        return connect(address)

    return dial


def test_a_bundle_of_another_run_is_refused(lab: Lab, ssh: SshTransport) -> None:
    report = lab.play("train", ssh, bundle_sha256="0" * 64)
    assert "the pod holds another bundle" in report.reason() and not (lab.workspace / "job").exists()


def test_a_bundle_that_lies_damaged_on_the_pod_is_put_right(lab: Lab, ssh: SshTransport) -> None:
    lab.play("train", ssh)
    wait(lab)
    (lab.workspace / "run/train.py").write_text("tampered\n")
    again = lab.play("train", ssh)
    assert again.exit_code == 0 and changed(again) == 1
    assert (lab.workspace / "run/train.py").read_text() == "print()\n"


def test_data_that_is_not_what_was_validated_is_refused(lab: Lab, ssh: SshTransport) -> None:
    data = lab.variables["data"]
    assert isinstance(data, list)
    report = lab.play("train", ssh, data=[{**data[0], "sha256": "0" * 64}])
    assert "is not the file that was promised" in report.reason() and not (lab.workspace / "job").exists()


def test_a_job_that_died_without_verdict_is_not_started_again(lab: Lab, ssh: SshTransport) -> None:
    lab.play("train", ssh)
    wait(lab)
    (lab.workspace / "job/exit").unlink()
    assert "the job is lost" in lab.play("train", ssh).reason()
    assert (lab.workspace / "starts").read_text() == "be gin\n"


def test_a_job_whose_verdict_cannot_be_read_is_neither_ended_nor_running(lab: Lab, ssh: SshTransport) -> None:
    lab.play("train", ssh)
    wait(lab)
    (lab.workspace / "job/exit").write_text("")
    assert "the job is unknown: " in lab.play("train", ssh).reason()


# ---- pre-flight


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"min_disk_gb": 10_000_000}, "GB are free"),
        ({"min_memory_gb": 100_000}, "of memory are free"),
        ({"max_clock_skew": -1}, "the pod's clock differs"),
        ({"lease_end": "2020-01-01T00:00:00Z"}, "nothing is started on it"),
        ({"gpu_count": 1.0}, "GPUs were rented; nvidia-smi"),
        ({"gpu_count": 2}, "nvidia-smi"),
    ],
    ids=lambda value: str(value),
)
def test_an_unfit_pod_is_refused_with_the_reason(lab: Lab, ssh: SshTransport, more: dict[str, Any], words: str) -> None:
    report = lab.play("preflight", ssh, **more)
    assert report.exit_code == 2 and words in report.reason()


@pytest.mark.parametrize(("count", "fits"), [(2, True), (1, False)])
def test_the_number_of_gpus_is_compared(lab: Lab, tmp_path: Path, count: int, fits: bool) -> None:
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA H100 (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    transport = LocalTransport(env={**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"})
    report = lab.play("preflight", transport, gpu_count=count)
    assert (report.exit_code == 0) is fits and (fits or "1 GPUs were rented; nvidia-smi lists: GPU 0" in report.reason())


def test_a_workspace_that_cannot_be_written_is_told(lab: Lab, ssh: SshTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = lab.play("preflight", ssh, workspace=str(tmp_path / "file/below"))
    assert report.exit_code == 2 and "log in and look around: exit code 1" in report.reason()


def test_an_armed_watchdog_is_waited_for(lab: Lab, ssh: SshTransport) -> None:
    status = lab.workspace / ".trainyard/watchdog/status.json"
    status.parent.mkdir(parents=True)
    threading.Timer(0.5, lambda: status.write_text(json.dumps({"armed": True}))).start()
    assert lab.play("preflight", ssh, expect_watchdog=True).reason() == ""


def test_what_the_watchdog_says_of_its_own_key_is_waited_for_and_told(lab: Lab, ssh: SshTransport) -> None:
    status = lab.workspace / ".trainyard/watchdog/status.json"
    status.parent.mkdir(parents=True)
    status.write_text(json.dumps({"armed": True, "key_sees_pod": False, "proof": "not asked yet"}))
    refused = {"armed": True, "key_sees_pod": False, "proof": "RunPod REST: HTTP 401"}
    write = lambda: (status.with_name("new").write_text(json.dumps(refused)), status.with_name("new").replace(status))  # noqa: E731
    threading.Timer(0.6, write).start()
    report = lab.play("preflight", ssh, expect_watchdog=True)
    assert report.exit_code == 0 and report.facts["pod"]["watchdog"] == refused


def test_a_watchdog_that_is_not_armed_is_refused_with_what_it_says(lab: Lab, ssh: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    status = lab.workspace / ".trainyard/watchdog/status.json"
    status.parent.mkdir(parents=True)
    status.write_text(json.dumps({"armed": False, "reason": "no end given"}))
    hurried = (PLAYBOOKS / "tasks/preflight.yml").read_text().replace("timeout: 20\n", "timeout: 1\n")
    path = lab.workspace / "hurried.yml"
    path.write_text("- hosts: all\n  tasks:\n    - include: tasks.yml\n")
    path.with_name("tasks.yml").write_text(hurried)
    report = playbook.run(playbook.load(path), {"pod": Host(ssh)}, {**lab.variables, "expect_watchdog": True})
    assert "the watchdog on the pod is not armed" in report.reason() and "no end given" in report.reason()


def test_a_pod_that_cannot_be_reached_is_unreachable(lab: Lab, server: Server) -> None:
    nowhere = Reconnecting(lambda: connect(replace(server.address, port=1), timeout=2))
    report = lab.play("preflight", nowhere)
    assert report.exit_code == 5 and "cannot be reached" in report.reason()


@pytest.mark.parametrize("name", ["preflight", "train", "collect"])
def test_on_a_fresh_host_a_run_that_only_checks_fails_at_nothing_and_makes_nothing(lab: Lab, tmp_path: Path, name: str) -> None:
    book, lines = playbook.load(PLAYBOOKS / f"{name}.yml"), list[str]()
    home = {"dest": str(tmp_path / "home"), "model": True}
    report = playbook.run(
        book,
        {"pod": Host(LocalTransport())},
        {**lab.variables, **home},
        check=True,
        diff=True,
        reporter=playbook.TextReporter(lines.append),
    )
    assert report.reason() == "" and not lab.workspace.exists() and not (tmp_path / "home").exists()
    if name == "preflight":
        assert report.tallies["pod"].ok > 5, lines


# ---- collect


def test_collect_brings_home_what_is_there(lab: Lab, ssh: SshTransport, tmp_path: Path) -> None:
    lab.play("train", ssh)
    wait(lab)
    model = lab.workspace / "output/model/adapter.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    (lab.workspace / "output/metrics.jsonl").write_text("{}\n")
    home = tmp_path / "home"
    report = lab.play("collect", ssh, dest=str(home), model=True)
    assert report.reason() == ""
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()) == [
        "metrics.jsonl", "model/adapter.safetensors", "train.log",
    ]  # fmt: skip
    assert changed(lab.play("collect", ssh, dest=str(home), model=True)) == 0


# ---- the command line


@pytest.mark.parametrize("name", sorted(path.name for path in PLAYBOOKS.glob("*.yml")))
def test_every_playbook_can_be_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = {name: "x" for name in ("workspace", "home", "dest", "bundle_dir", "bundle_sha256", "data", "job_env")}
    assert main([str(PLAYBOOKS / name), "--syntax-check", "-e", json.dumps(told)]) == 0
    assert "nothing wrong" in capsys.readouterr().out


def test_exit_codes_of_the_command_line(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    play = tmp_path / "p.yml"
    play.write_text("- hosts: all\n  tasks:\n    - command: '{{ what }}'\n")
    outputs = tmp_path / "outputs.json"
    address = server.address
    pod = {"pod_name": "p", "host": "127.0.0.1", "port": address.port, "user": address.user, "host_key": address.host_key}
    outputs.write_text(json.dumps(pod))
    over_ssh = ["-i", str(outputs), "--key", str(server.address.key_file)]
    assert main([str(play), "-e", "what=ls", *over_ssh]) == 0
    assert "changed: [p]" in capsys.readouterr().out
    assert main([str(play), "-e", "what=ls /none"]) == 2
    assert main([str(play)]) == 2
    assert "the variable 'what' is not defined" in capsys.readouterr().err
    outputs.write_text(json.dumps({**pod, "port": 1}))
    assert main([str(play), "-e", "what=ls", *over_ssh]) == 5
    assert main([str(play), "-e", "what=ls", "--check"]) == 0
    (tmp_path / "v.yml").write_text("what: ls\n")
    assert main([str(play), "-e", f"@{tmp_path}/v.yml"]) == 0
    assert main([str(play), "-e", "nonsense"]) == 2
    assert main([str(tmp_path / "none.yml")]) == 2


def test_a_play_for_this_machine_needs_no_host(run: Run) -> None:
    assert run("- hosts: localhost\n  tasks:\n    - command: 'true'").report.tallies["localhost"].ok == 1
