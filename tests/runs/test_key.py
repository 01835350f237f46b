"""The SSH key of a run's pod: lost or damaged, it is written again from the state; a person's own is left as it is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from trainyard.config import Places
from trainyard.errors import EngineError, UserError
from trainyard.remote.keys import is_private_key, new_ssh_key
from trainyard.runs.context import CommandContext
from trainyard.runs.records.environment import EnvironmentOutputs
from trainyard.runs.records.key import make_whole, private_key
from trainyard.runs.records.parts import NO_POD, RunPod
from trainyard.runs.records.record import RunRecord
from trainyard.runs.ui import Ui
from trainyard.stacks import facade

PEM = new_ssh_key()[0]
DAMAGE = {
    "empty": b"", "noise": b"\xff\xfe\x00", "half of it": PEM.encode()[:150], "zeros at its end": PEM.encode()[:100] + bytes(200),
    "a header alone": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "none": None,
}  # fmt: skip


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[CommandContext, dict[str, str]]:
    held = {"ssh_private_key": PEM}
    monkeypatch.setattr(facade, "outputs", lambda stack: held)
    made = CommandContext(Places(tmp_path, tmp_path / ".trainyard", tmp_path / "o", tmp_path / "c"), {}, Ui(stream=io.StringIO()))
    return made, held


def record(pod: RunPod = NO_POD) -> RunRecord:
    return RunRecord("ann", "a", 1, "lab", "command", {}, "0", 1.0, 0.0, pod=pod)


def outputs(key_file: Path, pem: str | None) -> EnvironmentOutputs:
    return EnvironmentOutputs(fence_id="f", ssh_public_key="k", ssh_key_file=str(key_file), ssh_private_key=pem, host_key_seed="s")


def spoil(path: Path, content: bytes | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/nonexistent/key") if content is None else path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_key_of_ours_is_written_again_from_the_state(context: tuple[CommandContext, dict[str, str]], damage: str) -> None:
    work, held = context
    path = work.places.ssh / "lab" / "id_ed25519"
    spoil(path, DAMAGE[damage])
    assert not (path.is_file() and is_private_key(path.read_bytes()))

    assert private_key(work, record()).read_text() == PEM

    held.clear()
    spoil(path, DAMAGE[damage] or b"") if not path.is_symlink() else None
    with pytest.raises(EngineError, match="is damaged and the state of 'lab' does not hold it"):
        private_key(work, record())


def test_a_persons_own_key_is_never_written_over(context: tuple[CommandContext, dict[str, str]], tmp_path: Path) -> None:
    work, _ = context
    own = tmp_path / "mine"
    own.write_bytes(b"no key at all")

    assert private_key(work, record(RunPod(ssh_key_file=str(own)))) == own and own.read_bytes() == b"no key at all"


@pytest.mark.parametrize("damage", DAMAGE)
def test_before_anything_is_rented_our_key_is_whole_again_and_a_persons_own_is_refused(
    context: tuple[CommandContext, dict[str, str]], tmp_path: Path, damage: str
) -> None:
    work, _ = context
    path, own = work.places.ssh / "lab" / "id_ed25519", tmp_path / "mine"
    spoil(path, DAMAGE[damage])
    spoil(own, DAMAGE[damage])

    make_whole(work, outputs(path, PEM))
    with pytest.raises(UserError, match=r"the SSH key .*mine is (gone|no private key, or damaged); nothing was rented"):
        make_whole(work, outputs(own, None))

    assert path.read_text() == PEM and own.is_symlink() is (DAMAGE[damage] is None)
