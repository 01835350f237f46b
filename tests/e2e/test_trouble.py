"""Whatever happens around a controller while a run trains: the pod and its result outlive it, and the next command goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.yard import JOBS, ROOT, Done, Yard, kill_tree

TOLD = ("invoke attach tester/a", "$0.00/h", "until the end of its lease, 20")


class Lab(Yard):
    """A yard with a stack 'lab', whose training waits for a word."""

    def begin(self, *settings: str) -> subprocess.Popen[str]:
        """Start a training; return when it works."""
        script = JOBS / "waits.sh"
        lines = [f"  trainyard:{line}\n" for line in ("cloud: local", *settings)]
        (self.root / "Pulumi.lab.yaml").write_text("config:\n" + "".join(lines))
        running = self.start("train", "--stack", "lab", "--recipe", "command", "--set", f"script={script}", "--name", "a")
        self.wait_for(self.begun)
        return running

    def begun(self) -> bool:
        """Tell whether the training works."""
        log = self.home / "runs/tester/a/1/train.log"
        return log.is_file() and b"begun" in log.read_bytes()

    def go(self) -> None:
        """Say the word."""
        self.invoke("ssh", "a", "--", "touch", "$WORKSPACE/go").expect()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab(Path(tempfile.mkdtemp(prefix="ty", dir="/tmp")))
    yield made
    (made.root / "Pulumi.lab.yaml").write_text("config:\n  trainyard:cloud: local\n")
    made.close()
    shutil.rmtree(made.base, ignore_errors=True)


def left_alone(lab: Lab, done: Done, code: int, *texts: str) -> None:
    """Check that a command has left the run as it is, and said what costs money."""
    done.expect(code)
    (pod,) = lab.pods()
    for text in (pod, *TOLD, *texts):
        assert text in done.err, done.err
    assert "Traceback" not in done.err + done.out and lab.record("a")["error"] is None and lab.record("a")["phase"] != "ended"


def break_the_checkout(lab: Lab) -> None:
    """Switch to a branch where nothing fits: a merge conflict, another recipe.yaml, no playbooks."""
    (lab.root / "Pulumi.lab.yaml").write_text("<<<<<<< HEAD\nconfig: {}\n=======\nconfig:\n  trainyard:cloud: lokal\n>>>>>>> x\n")
    (lab.root / "templates").unlink()
    shutil.copytree(ROOT / "templates", lab.root / "templates")
    (lab.root / "templates/command/recipe.yaml").write_text("not: [valid\n")
    (lab.root / "playbooks").unlink()


def test_a_broken_checkout_lost_keys_and_a_deleted_state_cost_no_result(lab: Lab, tmp_path: Path) -> None:
    lab.invoke("store.start").expect()
    keys = dict(line.split(" = ") for line in (lab.places.store / "credentials").read_text().splitlines() if " = " in line)
    names = {"AWS_ACCESS_KEY_ID": "aws_access_key_id", "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key"}
    lab.extra = {name: keys[key] for name, key in names.items()}
    lab.extra = {**lab.extra, "AWS_ENDPOINT_URL": lab.invoke("store.status").json()["endpoint"]}
    running = lab.begin("store: s3", "bucket: lab-results")

    os.kill(running.pid, signal.SIGTERM)
    out, _ = running.communicate(timeout=200)
    (pod,) = lab.pods()
    assert running.returncode == 11, out
    for text in ("detached (SIGTERM)", pod, *TOLD, "invoke cancel tester/a"):
        assert text in out, out

    break_the_checkout(lab)
    whole = dict(lab.extra)
    lab.extra = {name: value for name, value in whole.items() if name != "AWS_SECRET_ACCESS_KEY"}
    attached = lab.start("attach", "a")
    lab.wait_for(lambda: any(path.resolve().name == "train.log" for path in Path(f"/proc/{attached.pid}/fd").iterdir()))
    lab.wait_for(lab.home.is_dir)
    shutil.rmtree(lab.home, ignore_errors=True)
    lab.wait_for(lambda: lab.record("a") and lab.begun())
    lab.go()
    out, _ = attached.communicate(timeout=200)
    assert "was deleted while the run is driven" in out and "Traceback" not in out, out
    assert attached.returncode == 6 and "AWS_SECRET_ACCESS_KEY" in out and lab.pods() == [pod], out
    for text in ("its result is not safe yet", pod, *TOLD):
        assert text in out, out

    lab.extra = whole
    done = lab.invoke("attach", "a").expect()
    assert "run tester/a succeeded" in done.out and lab.pods() == []

    lab.invoke("download", "a", str(tmp_path / "got")).expect()
    assert (tmp_path / "got" / "model.txt").read_text() == "precious\n"


def test_a_lost_key_a_closed_out_folder_a_full_disk_and_a_broken_ledger_leave_the_run_to_the_next_attach(lab: Lab) -> None:
    kill_tree(lab.begin("bucket: none"))
    lab.go()
    out = lab.root / "out"

    aside = lab.base / "aside"
    lab.home.joinpath("ssh").rename(aside)
    state = next(lab.home.glob("state/**/lab.json"))
    state.rename(lab.base / "lab.json")
    left_alone(lab, lab.invoke("attach", "a"), 6, "id_ed25519 is gone", "invoke cancel tester/a --now")
    aside.rename(lab.home / "ssh")
    (lab.base / "lab.json").rename(state)

    out.write_text("a file where a folder should be")
    left_alone(lab, lab.invoke("recover"), 6, "its result is not safe yet", str(out))
    out.unlink()

    if os.getuid() == 0:
        out.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out], check=True)
        try:
            left_alone(lab, lab.invoke("attach", "a"), 74, "No space left on device")
        finally:
            subprocess.run(["umount", out], check=True)

    (lab.home / "ledger.db").write_bytes(b"no database" * 1000)
    done = lab.invoke("attach", "a").expect()
    assert "the ledger cannot be written, the run goes on without it" in done.out and lab.pods() == []
    assert (out / "tester/a/model/model.txt").read_text() == "precious\n"

    damaged = lab.home / "runs/tester/a/1/run.json"
    damaged.write_text('{"user": ')
    told = lab.invoke("recover").expect(6)
    assert str(damaged) in told.err and "invoke reap --all-stacks --dry-run" in told.err and "nothing to recover" not in told.out
    assert lab.invoke("runs", "--json").json()[0]["state"] == "unreadable record"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small tmpfs")
def test_with_a_full_disk_for_its_state_a_run_goes_on_and_a_person_can_still_end_it(lab: Lab) -> None:
    lab.home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", lab.home], check=True)
    try:
        kill_tree(lab.begin("bucket: none"))
        with contextlib.suppress(OSError), (lab.home / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(4096))
        left_alone(lab, lab.invoke("cancel", "a"), 74, "No space left on device", "invoke cancel tester/a --now")

        done = lab.invoke("cancel", "a", "--now").expect(74)
        assert "no pod of run tester/a is left (proved by the cloud)" in done.err
        assert lab.pods() == [] and "Traceback" not in done.out + done.err, done.out + done.err
    finally:
        subprocess.run(["umount", "-l", lab.home], check=True)
