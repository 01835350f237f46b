"""Jobs start once, outlive their connection, and have one verdict."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.remote.sshd import Server
from trainyard.errors import PodFailed
from trainyard.remote import jobs
from trainyard.remote.jobs import JobStatus
from trainyard.remote.transport import CommandResult, LocalTransport, Transport, connect
from trainyard.secret import Secret


def ended(t: Transport, job: Path, limit: float = 60.0) -> JobStatus:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        state = jobs.status(t, str(job))
        if state.ended:
            return state
        time.sleep(0.02)
    raise AssertionError(f"the job did not end: {state}")


def until(condition: Callable[[], bool], limit: float = 60.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_folder_that_is_not_there_is_an_absent_job(transport: Transport, pod: Path) -> None:
    assert jobs.status(transport, str(pod / "job")) == JobStatus("absent")


def test_a_job_whose_folder_is_gone_is_over_only_when_none_of_its_processes_lives(transport: Transport, pod: Path) -> None:
    job, mark = pod / "job", f"OUTPUT_DIR={pod}/output"
    assert jobs.is_over(transport, str(job), mark), "it was never started"
    for place, command in (
        (job, "sleep 600 & cd /; echo >$UP; exec sleep 600"),
        (pod / "other", "cd /; (unset OUTPUT_DIR; exec sleep 600) & echo >$UP; exec sleep 600"),
    ):
        up = pod / f"{place.name}.up"
        jobs.start(transport, str(place), command, {"OUTPUT_DIR": f"{pod}/output", "UP": str(up)})
        until(up.exists)
        reader = subprocess.Popen(["sleep", "600"], cwd=place)
        leader = int((place / "pid").read_text())
        shutil.rmtree(place)
        assert jobs.status(transport, str(place)).state == "absent" and not jobs.is_over(transport, str(place), mark)
        os.kill(leader, signal.SIGKILL)
        assert not jobs.is_over(transport, str(place), mark), "what it started lives on without it"
        os.killpg(leader, signal.SIGKILL)
        until(lambda place=place: jobs.is_over(transport, str(place), mark))  # type: ignore[misc]
        assert reader.poll() is None, "a reader of its log is not the job"
        reader.kill()
        reader.wait()


@pytest.mark.parametrize("command", ["cd /; exec env -i sleep 600", "cd ../code; exec env -i sleep 600 >/dev/null 2>&1 9>&-"])
def test_a_training_that_cleared_its_environment_is_seen_by_what_it_writes_or_where_it_works(pod: Path, command: str) -> None:
    (pod / "code").mkdir()
    jobs.start(LocalTransport(), str(pod / "job"), f"echo $$ >../up; {command}", {"OUTPUT_DIR": f"{pod}/output"})
    until(lambda: (pod / "up").exists() and b"sleep" in Path(f"/proc/{(pod / 'up').read_text().strip() or 1}/cmdline").read_bytes())
    os.kill(int((pod / "job" / "pid").read_text()), signal.SIGKILL)
    shutil.rmtree(pod / "job")
    assert not jobs.is_over(LocalTransport(), str(pod / "job"), f"OUTPUT_DIR={pod}/output")
    os.kill(int((pod / "up").read_text()), signal.SIGKILL)
    until(lambda: jobs.is_over(LocalTransport(), str(pod / "job"), f"OUTPUT_DIR={pod}/output"))


def test_a_job_runs_to_its_verdict_and_keeps_log_and_times(transport: Transport, pod: Path) -> None:
    job = pod / "a job"
    assert jobs.start(transport, str(job), "echo out; echo err >&2; exit 42")
    state = ended(transport, job)
    assert (state.state, state.exit_code) == ("exited", 42)
    assert (job / "log").read_text() == "out\nerr\n"
    assert state.started_at and state.ended_at and state.started_at <= state.ended_at
    assert jobs.verdict(state) == "exited 42"


def test_a_second_start_changes_nothing_even_after_the_end(transport: Transport, pod: Path) -> None:
    job = pod / "job"
    assert jobs.start(transport, str(job), "echo once")
    ended(transport, job)
    assert not jobs.start(transport, str(job), "echo twice")
    assert (job / "log").read_text() == "once\n" and "twice" not in (job / "script").read_text()


def test_of_eight_starts_at_once_exactly_one_wins(server: Server, pod: Path) -> None:
    job = pod / "job"
    with connect(server.address) as t, ThreadPoolExecutor(8) as pool:
        started = list(pool.map(lambda n: jobs.start(t, str(job), f"echo {n}; sleep 0.3"), range(8)))
        assert sorted(started) == [False] * 7 + [True]
        ended(t, job)
    assert len((job / "log").read_text().split()) == 1


def test_values_of_the_environment_are_data_not_code(transport: Transport, pod: Path) -> None:
    hostile = f'a b\'; touch {pod}/pwned; "$(touch {pod}/pwned)" `x` \\ \n é'
    jobs.start(transport, str(pod / "job"), 'printf %s "$X"; printf %s "$PYTHONUNBUFFERED"', {"X": hostile})
    ended(transport, pod / "job")
    assert (pod / "job/log").read_text() == hostile + "1"
    assert not (pod / "pwned").exists()
    assert (pod / "job/script").stat().st_mode & 0o077 == 0


def test_a_secret_reaches_the_job_by_its_environment_alone_and_lies_in_no_file(transport: Transport, pod: Path) -> None:
    hostile = f'tok\'en "$(touch {pod}/pwned)" \n é'
    jobs.start(transport, str(pod / "job"), 'printf %s "$HF_TOKEN" | sha256sum', {"HF_TOKEN": Secret(hostile), "SEEN": "by all"})
    ended(transport, pod / "job")
    assert (pod / "job/log").read_text().startswith(hashlib.sha256(hostile.encode()).hexdigest())
    texts = [path.read_text() for path in (pod / "job").iterdir()]
    assert any("by all" in text for text in texts) and not any("tok" in text or "dG9r" in text for text in texts)
    assert not (pod / "pwned").exists()


def test_a_jobs_environment_is_its_own_and_holds_no_key_of_the_pod(pod: Path) -> None:
    keys = ("SSH_HOST_ED25519_KEY", "RUNPOD_API_KEY", "CONTAINER_API_KEY", "JUPYTER_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MINE")
    login = {name: "s3cret\nX=s3cret" for name in keys}
    wanted = {"PATH": os.environ["PATH"], "CUDA_VISIBLE_DEVICES": "1", "NCCL_DEBUG": "WARN", "TOKENIZERS_PARALLELISM": "false", "KEPT": "k"}
    t = LocalTransport(env={**login, **wanted})
    everything = "cat /proc/self/environ /proc/$PPID/environ /proc/$(cat pid)/environ | tr '\\0' '\\n'; env"
    jobs.start(t, str(pod / "job"), everything, {"GIVEN": Secret("g"), "WANDB_API_KEY": "w"}, keeps=["KEPT"])
    ended(t, pod / "job")
    log = (pod / "job/log").read_text()
    assert "s3cret" not in log and all(f"{name}={value}\n" in log for name, value in wanted.items())
    assert "GIVEN=g\n" in log and "WANDB_API_KEY=w\n" in log


@pytest.mark.parametrize("trouble", ["empty verdict", "no number", "no lock to ask", "folder is a file"])
def test_what_cannot_be_read_is_unknown_and_never_an_end(transport: Transport, pod: Path, trouble: str) -> None:
    job = pod / "job"
    jobs.start(transport, str(job), "exit 0")
    ended(transport, job)
    if trouble == "folder is a file":
        job.rename(pod / "moved")
        job.write_text("")
    elif trouble == "no lock to ask":
        (job / "exit").unlink()
        (job / "lock").unlink()
        os.mknod(job / "lock", stat.S_IFSOCK | 0o600)
    else:
        (job / "exit").write_text("" if trouble == "empty verdict" else "all well\n")
    state = jobs.status(transport, str(job))
    assert state.state == "unknown" and state.why and not state.ended and "unknown: " in jobs.verdict(state)
    with pytest.raises(PodFailed, match="cannot be stopped"):
        jobs.stop(transport, str(job))


def test_an_answer_that_is_no_state_is_unknown(pod: Path) -> None:
    class Garbled(LocalTransport):
        """Answers something else."""

        answer = CommandResult(0, b"exited\nexit \n", b"")

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            return self.answer

    for answer in (
        CommandResult(0, b"exited\nexit \n", b""),
        CommandResult(0, b"", b""),
        CommandResult(127, b"", b"sh: not found"),
        CommandResult(0, b"fine\n", b""),
    ):
        Garbled.answer = answer
        assert jobs.status(Garbled(), "/job").state == "unknown"
        with pytest.raises(PodFailed):
            jobs.start(Garbled(), "/job", "true")


def test_a_job_outlives_its_connection(server: Server, pod: Path) -> None:
    with connect(server.address) as t:
        jobs.start(t, str(pod / "job"), f"while [ ! -e {pod}/go ]; do sleep 0.05; done; echo done")
    (pod / "go").touch()
    with connect(server.address) as t:
        assert ended(t, pod / "job").exit_code == 0
    assert (pod / "job/log").read_text() == "done\n"


def test_the_job_sees_no_input_and_no_lock_is_left_to_wait_for(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "cat; sleep 30 &")
    # The left-behind sleep holds the lock; the verdict counts.
    assert jobs.verdict(ended(transport, pod / "job")) == "exited 0"
    kill_session(pod / "job")


def test_stop_asks_with_term_and_the_programs_own_exit_code_is_the_verdict(transport: Transport, pod: Path) -> None:
    program = 'trap "echo saved; exit 7" TERM; echo ready; while :; do sleep 0.05; done'
    jobs.start(transport, str(pod / "job"), f"sh -c '{program}'; echo never")
    until(lambda: "ready" in (pod / "job/log").read_text())
    assert jobs.verdict(jobs.stop(transport, str(pod / "job"), grace=10)) == "exited 7"
    log = (pod / "job/log").read_text()
    assert log.endswith("saved\n") and "never" not in log


def test_the_verdict_waits_for_a_program_that_still_saves_after_its_shell_died(transport: Transport, pod: Path) -> None:
    saver = f'trap "sleep 0.5; touch {pod}/saved; exit 0" TERM; touch {pod}/ready; while :; do sleep 0.05; done'
    (pod / "saver.sh").write_text(saver)
    jobs.start(transport, str(pod / "job"), f"sh -c 'sh {pod}/saver.sh; true'")
    until(lambda: (pod / "ready").exists())
    state = jobs.stop(transport, str(pod / "job"), grace=10)
    assert jobs.verdict(state) == "exited 143" and (pod / "saved").exists()


def test_what_a_killed_shell_has_left_is_told_to_stop_and_over_before_the_verdict(transport: Transport, pod: Path) -> None:
    job, training = pod / "job", "trap 'sleep 0.5; echo saved; exit 75' TERM; echo up; while :; do sleep 0.1; done"
    jobs.start(transport, str(job), 'sh -c "$TRAINING" & until grep -q up log; do sleep 0.05; done; kill -9 $$', {"TRAINING": training})
    state = ended(transport, job)
    assert (state.state, state.exit_code, (job / "log").read_text().endswith("saved\n")) == ("exited", 137, True)


def test_what_ignores_term_is_killed_after_the_grace_and_the_verdict_is_still_written(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "trap '' TERM; sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done'")
    until(lambda: "ready" in (pod / "job/log").read_text())
    assert jobs.verdict(jobs.stop(transport, str(pod / "job"), grace=0.2)) == "exited 137"


def test_stopping_an_ended_job_tells_its_verdict(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "exit 3")
    ended(transport, pod / "job")
    assert jobs.stop(transport, str(pod / "job")).exit_code == 3
    assert jobs.stop(transport, str(pod / "none")).state == "absent"


def test_a_job_killed_with_its_supervisor_is_lost_and_not_started_again(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "echo ready; sleep 60")
    until(lambda: "ready" in (pod / "job/log").read_text())
    kill_session(pod / "job")
    state = ended(transport, pod / "job")
    assert state.state == "lost" and not state.restarted and "out of memory" in jobs.verdict(state)
    assert not jobs.start(transport, str(pod / "job"), "echo again")


@pytest.mark.parametrize("swept", ["lock", "pid"])
def test_a_job_whose_folder_was_swept_is_not_lost_while_it_lives(transport: Transport, pod: Path, swept: str) -> None:
    job = pod / "job"
    jobs.start(transport, str(job), "sleep 60")
    until((job / "pid").is_file)
    supervisor = int((job / "pid").read_text())
    (job / swept).unlink()

    assert jobs.status(transport, str(job)).state == "running"

    os.killpg(supervisor, signal.SIGKILL)
    until(lambda: jobs.status(transport, str(job)).state != "running")
    assert jobs.status(transport, str(job)).state == {"lock": "absent", "pid": "lost"}[swept], "without its lock nothing is known"


def test_a_lost_job_on_a_machine_that_was_booted_since_says_so(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), "echo ready; sleep 60")
    until(lambda: (pod / "job/pid").exists())
    kill_session(pod / "job")
    (pod / "job/boot_id").write_text("another boot\n")
    assert jobs.verdict(ended(transport, pod / "job")) == "lost: the pod was restarted"


def test_killing_the_supervisor_alone_leaves_the_job_running(transport: Transport, pod: Path) -> None:
    jobs.start(transport, str(pod / "job"), f"touch {pod}/runs; while [ ! -e {pod}/go ]; do sleep 0.05; done")
    until(lambda: (pod / "runs").exists())
    os.kill(int((pod / "job/pid").read_text()), signal.SIGKILL)
    assert jobs.status(transport, str(pod / "job")).state == "running"
    (pod / "go").touch()
    assert ended(transport, pod / "job").state == "lost"


def test_a_start_that_died_before_its_claim_can_be_repeated(transport: Transport, pod: Path) -> None:
    job = pod / "job"
    job.mkdir()
    (job / "lock").touch()
    (job / "script").write_text("echo half")
    assert jobs.status(transport, str(job)).state == "absent"
    assert jobs.start(transport, str(job), "echo whole")
    ended(transport, job)
    assert (job / "log").read_text() == "whole\n"


def test_a_cut_off_script_is_not_started(pod: Path) -> None:
    class CutShort(LocalTransport):
        """Delivers half of the input, as a link does that dies in the middle."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            return super().exec(command, stdin[: len(stdin) // 2] if stdin else stdin, **more)

    with pytest.raises(PodFailed, match="did not arrive whole"):
        jobs.start(CutShort(), str(pod / "job"), "echo a long enough command")
    assert jobs.status(LocalTransport(), str(pod / "job")).state == "absent"


def test_a_pod_without_flock_is_told_so(pod: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "mkdir", "cat", "wc", "rm"):
        (tools / name).symlink_to(subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip())
    with pytest.raises(PodFailed, match="setsid is missing"):
        jobs.start(LocalTransport(env={"PATH": str(tools)}), str(pod / "job"), "true")


def test_the_verdict_is_written_on_a_full_disk(tmp_path: Path) -> None:
    # A small tmpfs in a mount namespace of its own; the job fills it to the last byte and ends with 9.
    script = f"""
        set -e
        mount -t tmpfs -o size=256k,mode=700 none {tmp_path}
        {sys.executable} - <<'END'
import time
from trainyard.remote import jobs
from trainyard.remote.transport import LocalTransport
t = LocalTransport()
job = "{tmp_path}/job"
jobs.start(t, job, "cat /dev/zero >../filler; echo x >../more || exit 9")
while not jobs.status(t, job).ended:
    time.sleep(0.05)
print(jobs.verdict(jobs.status(t, job)), t.exec("df -k {tmp_path} | tail -n 1").text.split()[3])
END
    """
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", script]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=60)
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("no mount namespace here: " + done.stderr.strip()[-80:])
    assert done.stdout.split() == ["exited", "9", "0"], done.stderr


def kill_session(job: Path) -> None:
    """SIGKILL everything of the job's process group, as the kernel or a closing pod does."""
    os.killpg(int((job / "pid").read_text()), signal.SIGKILL)
