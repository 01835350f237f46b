"""Runs on a cloud without SSH, whatever happens to controller, container and bucket: ``python -m tests.e2e.nossh_trials [NAME ...]``.

Each trial has a Trainyard of its own with the cloud of tests/e2e/nossh/: local pods whose command is the run, and of whose SSH
nobody is told. However it comes out, the result (or what there is) is in the bucket, once, and no pod is left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.e2e.yard import ROOT, Yard, kill_tree
from trainyard.storage import bucket, local, seal
from trainyard.storage.client import StoreSettings, with_bucket
from trainyard.storage.live import key_of
from trainyard.storage.manifest import ResultKey

WHERE = ResultKey("tester", "a", 1)
WAITS = 'mkdir -p "$OUTPUT_DIR/model"; echo half >"$OUTPUT_DIR/model/a"; trap "echo saving; exit 75" TERM; i=0; '
WAITS += 'while :; do i=$((i + 1)); echo "tick $i"; sleep 0.5 & wait $!; done\n'
WORKS = 'mkdir -p "$OUTPUT_DIR/model"; for i in 1 2 3; do echo "step $i"; sleep 0.5; done; echo done >"$OUTPUT_DIR/model/a"\n'


class Field:
    """One Trainyard whose stack `nossh` rents containers."""

    def __init__(self, extra: Mapping[str, str] | None = None, settings: str = "") -> None:
        base = Path(tempfile.mkdtemp(prefix="ty", dir="/tmp"))
        self.yard = Yard(base, {"PYTHONPATH": str(ROOT / "tests/e2e/nossh"), **(extra or {})})
        (self.yard.root / "Pulumi.nossh.yaml").write_text(f"config:\n  trainyard:store: local\n{settings}")

    def words(self, script: str, *more: str) -> tuple[str, ...]:
        """Return the words of a run of a script."""
        path = self.yard.base / "job.sh"
        path.write_text(script)
        return ("train", "--stack", "nossh", "--recipe", "command", "--set", f"script={path}", "--name", "a", "--yes", *more)

    def start(self, script: str, *more: str) -> Any:
        """Begin a run, and return its command when the training runs."""
        process = self.yard.start(*self.words(script, *more))
        self.yard.wait_for(lambda: "tick 1" in self.log() or process.poll() is not None, 60)
        return process

    def log(self) -> str:
        """Return the log at home."""
        path = self.yard.home / "runs/tester/a/1/train.log"
        return path.read_text() if path.is_file() else ""

    def store(self) -> StoreSettings:
        """Return the run's bucket."""
        return with_bucket(local.ensure(self.yard.places), self.yard.record("a")["bucket"]["bucket"])

    def result(self) -> dict[str, bytes]:
        """Return the result's files."""
        store = self.store()
        return {item.key.removeprefix(WHERE.model): seal.read(store, item.key) or b"" for item in bucket.listing(store, WHERE.model)}

    def live(self) -> list[str]:
        """Return what is left of what was written while it ran."""
        return [item.key for item in bucket.listing(self.store(), key_of(WHERE, ""))]

    def status(self) -> dict[str, Any]:
        """Return what the container last told."""
        said: dict[str, Any] = json.loads(seal.read(self.store(), key_of(WHERE, "status.json")) or b"{}")
        return said

    def processes(self, word: str) -> list[int]:
        """Return processes of this yard's pods by a word of their command line, the oldest first."""
        lease = str(self.yard.record("a")["pod"]["lease_id"]).encode()
        those = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes() and lease in (entry / "environ").read_bytes():
                    those.append(int(entry.name))
            except OSError:
                continue
        return sorted(those)

    def close(self) -> None:
        """End everything."""
        for pod in self.yard.cloud.list():
            self.yard.cloud.terminate(pod.id)
        self.yard.close()
        shutil.rmtree(self.yard.base, ignore_errors=True)


def story(field: Field) -> None:
    """Train, follow, result proven, pod ended after that."""
    done = field.yard.invoke(*field.words(WORKS)).expect()
    assert "step 3" in done.err + done.out and "the pod committed it alone" in done.err + done.out, done
    assert field.result()["a"] == b"done\n" and not field.yard.pods() and not field.live(), field.live()


def exit_three(field: Field) -> None:
    """Exit code 3: what there is is kept, the log's last words are told."""
    done = field.yard.invoke(*field.words('mkdir -p "$OUTPUT_DIR"; echo half >"$OUTPUT_DIR/a"; echo no more; exit 3\n')).expect(1)
    assert "exited 3" in done.err + done.out and "no more" in done.err + done.out, done
    record = field.yard.record("a")
    assert record["result"]["kept"]["exit_code"] == 3 and not field.yard.pods()


def killed_job(field: Field) -> None:
    """The kernel kills the program, as for want of memory."""
    done = field.yard.invoke(*field.words('mkdir -p "$OUTPUT_DIR"; echo half >"$OUTPUT_DIR/a"; sh -c \'kill -9 $$\'\n')).expect(1)
    assert "exited 137" in done.err + done.out, done
    assert field.yard.record("a")["result"]["kept"]["exit_code"] == 137 and not field.yard.pods()


def killed_supervisor(field: Field) -> None:
    """All of the job is killed, its supervisor first: no verdict, and what there is is kept."""
    process = field.start(WAITS)
    pid = int((Path(field.yard.cloud.list()[0].id) and next(field.yard.base.rglob("job/pid"))).read_text())
    those = field.processes("supervisor") + field.processes("run.sh") + field.processes("job.sh") + field.processes("script")
    for one in [*those, pid]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue
    out = field.yard.output(process).read()
    assert process.wait(90) == 1, out
    assert "no verdict" in out or "exited" in out, out
    assert not field.yard.pods()


def cancelled(field: Field) -> None:
    """Somebody cancels while another follows: the job saves within ten seconds."""
    process = field.start(WAITS)
    began = time.monotonic()
    field.yard.invoke("cancel", "a")
    field.yard.wait_for(lambda: "saving" in field.log(), 30)
    took = time.monotonic() - began
    out = field.yard.output(process).read()
    process.wait(90)
    assert took < 15, took
    assert field.yard.record("a")["cancelled"] and field.yard.record("a")["result"]["kept"]["exit_code"] == 75, out
    assert not field.yard.pods()


def killed_controller(field: Field) -> None:
    """The controller dies while it trains; attach from its start again, and the story ends."""
    process = field.start(WORKS.replace("sleep 0.5", "echo tick 1; sleep 1"))
    kill_tree(process)
    done = field.yard.invoke("attach", "a").expect()
    assert field.result()["a"] == b"done\n" and not field.yard.pods(), done
    assert field.log().count("step 2") == 1


def killed_before(field: Field) -> None:
    """The controller dies at any stage before; the next command goes on, and one job ran."""
    for wait in (0.5, 1.5, 2.5, 3.5):
        process = field.yard.start(*field.words(WORKS.replace("sleep 0.5", "sleep 0.2"), "--name", f"k{int(10 * wait)}"))
        time.sleep(wait)
        if process.poll() is None:
            kill_tree(process)
    field.yard.invoke("recover")
    assert not field.yard.pods(), field.yard.pods()


def gone_controller(field: Field) -> None:
    """Nobody comes back before the end: the container ends, another command seals and ends the pod."""
    process = field.start(WORKS.replace("sleep 0.5", "echo tick 1; sleep 1"))
    kill_tree(process)
    field.yard.wait_for(lambda: seal.read(field.store(), WHERE.pod_committed) is not None, 60)
    field.yard.invoke("recover").expect()
    assert field.result()["a"] == b"done\n" and not field.yard.pods()


def lost_laptop(field: Field) -> None:
    """The machine with the run's state is gone: a clone of the repository seals the result and ends the pod."""
    process = field.start(WORKS.replace("sleep 0.5", "echo tick 1; sleep 1"))
    kill_tree(process)
    field.yard.wait_for(lambda: seal.read(field.store(), WHERE.pod_committed) is not None, 60)
    store, pods = field.store(), field.yard.pods()
    shutil.rmtree(field.yard.home / "runs")
    time.sleep(5)
    done = field.yard.invoke("recover")
    assert pods and not field.yard.pods(), done
    assert seal.read(store, WHERE.model + "a") == b"done\n", done


def detached(field: Field) -> None:
    """Left to its container."""
    field.yard.invoke(*field.words(WORKS.replace("sleep 0.5", "sleep 1"), "--detach")).expect()
    field.yard.invoke("logs", "a", "--follow")
    field.yard.invoke("attach", "a").expect()
    assert field.result()["a"] == b"done\n" and not field.yard.pods()


def stopped_by_lease(field: Field) -> None:
    """The lease's stop comes: the job saves, is kept, and the pod ends."""
    done = field.yard.invoke(*field.words(WAITS, "--hours", "0.004"), timeout=150)
    assert "saving" in field.log() and field.yard.record("a")["result"]["kept"]["exit_code"] == 75, done
    assert not field.yard.pods()


def bucket_away(field: Field) -> None:
    """The bucket cannot be reached for a while, also when the job ends."""
    process = field.start(WORKS.replace("sleep 0.5", "echo tick 1; sleep 2"))
    pids = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_server(pid, field.yard.base)]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(20)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    out = field.yard.output(process).read()
    assert process.wait(120) == 0, out
    assert field.result()["a"] == b"done\n" and not field.yard.pods()


def killed_worker(field: Field) -> None:
    """The container's worker dies: the keeper makes another, which goes on."""
    process = field.start(WORKS.replace("sleep 0.5", "echo tick 1; sleep 2"))
    keeper, *workers = field.processes("trainyard.pod.container")
    assert workers, keeper
    os.kill(workers[-1], signal.SIGKILL)
    out = field.yard.output(process).read()
    assert process.wait(120) == 0, out
    assert field.result()["a"] == b"done\n" and field.log().count("step 3") == 1


def extended(field: Field) -> None:
    """The lease is moved while it trains: the container hears of it and gets URLs that live as long."""
    process = field.start(WAITS, "--hours", "0.5")
    before = field.status()
    field.yard.invoke("extend", "a", "4h").expect()
    field.yard.wait_for(lambda: field.status()["until"] > before["until"] + 1800, 60)
    field.yard.wait_for(lambda: field.status()["watchdog"]["stop"] != before["watchdog"]["stop"], 60)
    field.yard.invoke("cancel", "a")
    out = field.yard.output(process).read()
    process.wait(90)
    assert field.yard.record("a")["result"]["kept"]["exit_code"] == 75 and not field.yard.pods(), out


def resumed(field: Field) -> None:
    """What was cancelled goes on from its checkpoint in a container of its own."""
    half = 'mkdir -p "$OUTPUT_DIR/checkpoints/c1" "$OUTPUT_DIR/model"; [ -z "$TRAINYARD_RESUME" ] || '
    half += '{ cat "$TRAINYARD_RESUME/state" >"$OUTPUT_DIR/model/a"; exit 0; }; echo 41 >"$OUTPUT_DIR/checkpoints/c1/state"; ' + WAITS
    process = field.start(half)
    field.yard.invoke("cancel", "a")
    out = field.yard.output(process).read()
    process.wait(90)
    done = field.yard.invoke("resume", "a", "--yes")
    assert done.code == 0, out + done.out + done.err
    store = field.store()
    assert seal.read(store, ResultKey("tester", "a", 2).model + "a") == b"41\n" and not field.yard.pods()


def with_data(field: Field) -> None:
    """Data, code and a token of one's own: small files go through the bucket, too, and secrets lie in no file."""
    rows = field.yard.base / "rows.txt"
    rows.write_text("some rows\n")
    job = (
        'mkdir -p "$OUTPUT_DIR/model"; cat "$INPUT_DIR/rows.txt" >"$OUTPUT_DIR/model/a"; [ "$HF_TOKEN" = hf_0123456789abcdef ] || exit 9\n'
    )
    path = field.yard.root / "Pulumi.nossh.yaml"
    path.write_text(path.read_text() + "  trainyard:pod_secrets: [HF_TOKEN]\n")
    (field.yard.root / ".env").write_text("HF_TOKEN=hf_0123456789abcdef\n")
    done = field.yard.invoke(*field.words(job, "--data", str(rows)))
    assert done.code == 0, done.out + done.err
    assert field.result()["a"] == b"some rows\n" and not field.yard.pods()


def lying_bundle(field: Field) -> None:
    """Somebody has changed the bundle in the bucket: nothing of it runs, and the reason is told."""
    process = field.yard.start(*field.words(WORKS))
    field.yard.wait_for(lambda: (field.yard.record("a").get("container") or {}).get("bundle"), 60)  # before, it is read back
    path = next(field.yard.places.store.rglob("live/*.tar.gz"))
    body = path.read_bytes()
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    out = field.yard.output(process).read()
    assert process.wait(90) != 0 and "the bundle is not the one of the create request" in out, out
    assert "step 1" not in field.log() and not field.yard.pods()


def dead_container(field: Field) -> None:
    """The container dies with all that was in it: the run is told lost, once, and nothing is left."""
    process = field.start(WAITS)
    for pid in field.processes("trainyard.pod.container"):
        os.kill(pid, signal.SIGKILL)
    out = field.yard.output(process).read()
    assert process.wait(200) != 0 and "the cloud has stopped pod" in out, out
    assert not field.yard.pods()


def queued(field: Field) -> None:
    """The queue's worker begins it, leaves it to its container, and finishes its story."""
    words = field.words(WORKS)
    field.yard.invoke("submit", *words[1:]).expect()
    done = field.yard.invoke("worker", "--once", timeout=120)
    record = field.yard.record("a")
    if record.get("phase") != "ended":
        field.yard.invoke("attach", "a").expect()
    assert field.result()["a"] == b"done\n" and not field.yard.pods(), done


def _is_server(pid: int, base: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"versitygw" in words and str(base).encode() in words


PLAYED = (
    story, exit_three, killed_job, killed_supervisor, cancelled, killed_controller, killed_before, gone_controller, lost_laptop,
    detached, stopped_by_lease, bucket_away, killed_worker, extended, resumed, with_data, lying_bundle, dead_container, queued,
)  # fmt: skip
TRIALS: Mapping[str, Callable[[Field], None]] = {trial.__name__: trial for trial in PLAYED}


def play(name: str) -> None:
    """Play one trial."""
    field = Field(settings="  trainyard:rescue_minutes: 4\n")
    try:
        TRIALS[name](field)
    finally:
        field.close()


def main(names: list[str]) -> int:
    """Play trials; return 1 when one of them has failed."""
    bad = 0
    for name in names or TRIALS:
        began = time.monotonic()
        try:
            play(name)
            print(f"{name}: right ({time.monotonic() - began:.0f} s)", flush=True)
        except Exception as error:
            bad += 1
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
