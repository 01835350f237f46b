"""Secrets, checkpoints and locks in the CLI's formats."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from trainyard.engine import locks
from trainyard.engine.backend import Backend, encode, salt_of
from trainyard.engine.secrets import Crypter, new_salt
from trainyard.errors import EngineError, RefusedError, UserError

GOLDEN = Path(__file__).parent / "golden"
SALT = json.loads((GOLDEN / "00-empty.json").read_text())["checkpoint"]["latest"]["secrets_providers"]["state"]["salt"]


@pytest.fixture(scope="module")
def crypter() -> Crypter:
    return Crypter("x", SALT)


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    result = Backend(tmp_path)
    result.create("px", "dev", SALT)
    return result


def place(backend: Backend, text: str) -> Path:
    path = backend.checkpoint_path("px", "dev")
    path.write_text(text)
    return path


def test_a_secret_that_the_cli_wrote_is_read(crypter: Crypter) -> None:
    assert crypter.decrypt("v1:Ir3n/Opef/zVOr2P:uLadV95BWjaIUkM//kVzx3JuDdgW5YG0XWeDng==") == "s3cr3t-value"


def test_a_secret_comes_back_and_never_looks_the_same_twice(crypter: Crypter) -> None:
    first, second = crypter.encrypt("päss"), crypter.encrypt("päss")
    assert first != second
    assert crypter.decrypt(first) == crypter.decrypt(second) == "päss"


def test_the_ciphertext_of_an_unchanged_secret_at_the_same_place_is_kept(crypter: Crypter) -> None:
    value = crypter.encrypt("a")
    crypter.decrypt(value, place="urn:1")
    assert crypter.encrypt("a", place="urn:1") == value
    assert crypter.encrypt("a", place="urn:2") != value


def test_a_wrong_passphrase_is_a_clear_error() -> None:
    with pytest.raises(EngineError, match="passphrase is wrong"):
        Crypter("y", SALT)


def test_an_altered_secret_is_an_error(crypter: Crypter) -> None:
    value = crypter.encrypt("abc")
    with pytest.raises(EngineError, match="altered"):
        crypter.decrypt(value[:-6] + ("AAAA==" if value[-6:] != "AAAA==" else "BBBB=="))


def test_a_new_salt_opens_with_its_passphrase_only() -> None:
    salt = new_salt("")
    Crypter("", salt).check()
    with pytest.raises(EngineError):
        Crypter("z", salt, background=True).check()


@pytest.mark.parametrize(
    "path", sorted(p for p in GOLDEN.glob("*.json") if p.name not in ("11-lock.json", "13-export.json")), ids=lambda p: p.stem
)
def test_each_state_the_cli_wrote_is_read(backend: Backend, path: Path) -> None:
    place(backend, path.read_text())
    assert salt_of(backend.load("px", "dev")) == SALT


def test_a_saved_state_keeps_its_predecessor(backend: Backend) -> None:
    before = backend.checkpoint_path("px", "dev").read_bytes()
    latest = backend.load("px", "dev")["latest"]
    backend.save("px", "dev", encode({**latest, "resources": []}))
    assert backend.checkpoint_path("px", "dev").with_name("dev.json.bak").read_bytes() == before
    assert backend.load("px", "dev")["latest"]["resources"] == []


def test_a_damaged_state_names_the_last_good_backup_and_stays(backend: Backend) -> None:
    backend.save("px", "dev", encode(backend.load("px", "dev")["latest"]))
    path = place(backend, '{"version":3,"chec')
    with pytest.raises(EngineError, match=r"damaged(.|\n)*dev\.json\.bak"):
        backend.load("px", "dev")
    assert path.read_text() == '{"version":3,"chec'


def test_a_damaged_state_skips_damaged_backups(backend: Backend, tmp_path: Path) -> None:
    good = backend.checkpoint_path("px", "dev").read_text()
    folder = tmp_path / ".pulumi/backups/px/dev"
    folder.mkdir(parents=True)
    (folder / "dev.1.json").write_text(good)
    path = place(backend, "")
    path.with_name("dev.json.bak").write_text("[]")
    assert backend.last_good_backup("px", "dev") == folder / "dev.1.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 5}, "format 5"),
        ({"features": ["refreshBeforeUpdate"]}, "refreshBeforeUpdate"),
    ],
)
def test_a_newer_format_is_refused_by_name(backend: Backend, change: dict[str, object], message: str) -> None:
    document = json.loads((GOLDEN / "01-fresh-up.json").read_text())
    place(backend, json.dumps({**document, **change}))
    with pytest.raises(RefusedError, match=message):
        backend.load("px", "dev")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secrets_providers": {"type": "awskms"}}, "awskms"),
        ({"snippets": [{"id": 1}]}, "snippets"),
        ({"resources": [{"urn": "u", "type": "t", "viewOf": "x"}]}, "view"),
    ],
)
def test_a_deployment_with_unknown_content_is_refused_by_name(backend: Backend, change: dict[str, object], message: str) -> None:
    document = json.loads((GOLDEN / "01-fresh-up.json").read_text())
    document["checkpoint"]["latest"].update(change)
    place(backend, json.dumps(document))
    with pytest.raises(RefusedError, match=message):
        backend.load("px", "dev")


def test_an_unknown_stack_names_those_that_exist(backend: Backend) -> None:
    with pytest.raises(UserError, match=r"no stack 'prod'(.|\n)*dev"):
        backend.load("px", "prod")


def test_another_backend_than_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="s3://"):
        Backend("s3://bucket")
    assert Backend(f"file://{tmp_path}").root == Backend(tmp_path).root


def test_a_stack_with_resources_is_not_removed(backend: Backend) -> None:
    place(backend, (GOLDEN / "01-fresh-up.json").read_text())
    with pytest.raises(RefusedError, match="still has resources"):
        backend.remove("px", "dev")
    place(backend, (GOLDEN / "13-destroyed.json").read_text())
    with pytest.raises(RefusedError, match="pending"):
        backend.remove("px", "dev")
    place(backend, (GOLDEN / "00-empty.json").read_text())
    backend.remove("px", "dev")
    assert backend.stacks("px") == []


def foreign_lock(backend: Backend, **content: object) -> Path:
    folder = locks.folder(backend.root, "px", "dev")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "0-cli.json"
    path.write_text(json.dumps({"pid": os.getpid(), "username": "u", "hostname": socket.gethostname(), "timestamp": locks_now()} | content))
    return path


def locks_now() -> str:
    return "2999-01-01T00:00:00.123456789Z"


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_the_lock_of_a_living_process_is_respected(backend: Backend) -> None:
    path = foreign_lock(backend)
    with pytest.raises(locks.Locked, match="locked by 1"):
        locks.acquire(backend.root, "px", "dev")
    assert path.exists()
    assert len(backend.locks("px", "dev")) == 1


def test_the_lock_of_another_host_is_never_removed(backend: Backend) -> None:
    path = foreign_lock(backend, hostname="elsewhere", pid=dead_pid())
    with pytest.raises(locks.Locked):
        locks.acquire(backend.root, "px", "dev")
    assert locks.cancel(backend.root, "px", "dev", print) and path.exists()


def test_the_lock_of_a_dead_process_is_removed_aloud_with_its_side_file(backend: Backend) -> None:
    path = foreign_lock(backend, pid=dead_pid())
    path.with_name(path.name + ".attrs").write_text("{}")
    said: list[str] = []
    with locks.hold_lock(backend.root, "px", "dev", said.append) as own:
        assert own.exists() and not path.exists()
    assert not own.exists() and list(own.parent.iterdir()) == []
    assert "process is gone" in said[0]


def test_a_reused_pid_does_not_keep_a_lock_of_ours_alive(backend: Backend) -> None:
    own = json.loads(locks.acquire(backend.root, "px", "dev").read_text())
    for path in locks.folder(backend.root, "px", "dev").iterdir():
        path.unlink()
    foreign_lock(backend, **{**own, "processStart": "1"})
    with locks.hold_lock(backend.root, "px", "dev"):
        pass


def test_a_lock_from_another_pid_namespace_of_this_boot_proves_nothing(backend: Backend) -> None:
    own = json.loads(locks.acquire(backend.root, "px", "dev").read_text())
    for path in locks.folder(backend.root, "px", "dev").iterdir():
        path.unlink()
    foreign_lock(backend, **{**own, "pid": dead_pid(), "pidNamespace": "pid:[1]"})
    with pytest.raises(locks.Locked):
        locks.acquire(backend.root, "px", "dev")


def test_a_lock_from_before_the_last_boot_is_dead(backend: Backend) -> None:
    foreign_lock(backend, timestamp="2001-01-01T00:00:00Z")
    foreign = foreign_lock(backend, bootId="another", timestamp=locks_now())
    locks.acquire(backend.root, "px", "dev")
    assert not foreign.exists()


def test_a_lock_that_cannot_be_read_is_respected(backend: Backend) -> None:
    foreign_lock(backend).write_text("{")
    with pytest.raises(locks.Locked):
        locks.acquire(backend.root, "px", "dev")
