"""A folder goes up in packs, and what the pod has already, in place or in its store, is not sent."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from trainyard.errors import PodFailed
from trainyard.remote import tree
from trainyard.remote.transport import LocalTransport
from trainyard.remote.tree import differing, put_tree


class Counting(LocalTransport):
    """Counts the bytes that go up."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
        self.sent += len(stdin) if isinstance(stdin, bytes) else 0
        return super().exec(command, stdin, **more)


def noise(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))


def shown(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_what_changed_is_sent_to_a_pod_that_has_the_rest(pod: Path, tmp_path: Path) -> None:
    for number in range(40):
        noise(tmp_path / f"up/p{number % 3}/{number}.py", 5000)
    put_tree(Counting(), tmp_path / "up", str(pod / "t"))
    noise(tmp_path / "up/p0/0.py", 5000)
    link = Counting()
    assert put_tree(link, tmp_path / "up", str(pod / "t")) == ["p0/0.py"]
    assert 5000 < link.sent < 10_000 and shown(pod / "t") == shown(tmp_path / "up")


@pytest.mark.parametrize("damage", [False, True])
def test_a_store_on_the_pod_gives_the_next_one_what_has_not_changed(pod: Path, tmp_path: Path, damage: bool) -> None:
    for name, size in {"a.py": 3000, "odd\nname/-b": 4000, "same.bin": 2_000_000}.items():
        noise(tmp_path / "up" / name, size)
    (tmp_path / "up/a.py").chmod(0o755)
    store = pod / "volume/files"
    put_tree(Counting(), tmp_path / "up", str(pod / "first"), store=str(store))
    assert {path.name for path in store.iterdir()} == {hashlib.sha256(data).hexdigest() for data in shown(tmp_path / "up").values()}
    if damage:
        for path in store.iterdir():
            path.write_bytes(b"x")

    noise(tmp_path / "up/new.py", 1000)
    link = Counting()
    changed = put_tree(link, tmp_path / "up", str(pod / "second"), store=str(store))
    assert len(changed) == 4 and shown(pod / "second") == shown(tmp_path / "up"), "a damaged store is not believed"
    assert damage or link.sent < 3000
    assert os.access(pod / "second/a.py", os.X_OK) and not os.access(pod / "second/new.py", os.X_OK)


def test_many_files_make_several_packs_and_one_lost_pack_costs_only_itself(pod: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(tree, "PACK_FILES", 4)
    for number in range(10):
        noise(tmp_path / "up" / str(number), 100)
    assert len(put_tree(LocalTransport(), tmp_path / "up", str(pod / "t"))) == 10
    assert sorted(path.name for path in (pod / "t").iterdir()) == sorted(map(str, range(10))), "nothing half lies about"


def test_a_folder_in_the_place_of_a_file_is_named_and_a_look_makes_nothing(pod: Path, tmp_path: Path) -> None:
    noise(tmp_path / "up/a", 1)
    assert differing(LocalTransport(), tmp_path / "up", str(pod / "t")) == ["a"] and not (pod / "t").exists()
    (pod / "t/a").mkdir(parents=True)
    with pytest.raises(PodFailed, match="t/a is a directory"):
        put_tree(LocalTransport(), tmp_path / "up", str(pod / "t"))


def test_a_pod_without_tar_says_so(pod: Path, tmp_path: Path) -> None:
    class Bare(LocalTransport):
        """Has no tar."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            return super().exec("tar() { echo 'tar: not found' >&2; return 127; }\n" + command, stdin, **more)

    noise(tmp_path / "up/a", 1)
    with pytest.raises(PodFailed, match="tar: not found"):
        put_tree(Bare(), tmp_path / "up", str(pod / "t"))
