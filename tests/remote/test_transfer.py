"""Files arrive whole or not at all, and only what differs is sent."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.remote.proxy import Proxy
from tests.remote.sshd import Server
from trainyard.errors import PodFailed, Unreachable, UserError
from trainyard.files import sha256_of
from trainyard.remote import upload
from trainyard.remote.download import Brought, fetch
from trainyard.remote.local import SLICE
from trainyard.remote.protocol import NotSent
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transfer import get_file, get_tree, list_tree, put_bytes, put_file, send_file
from trainyard.remote.transport import CommandResult, LocalTransport, OnBytes, Stdin, Transport, connect
from trainyard.remote.tree import put_tree

MB = 1024 * 1024
BIG = 5 * MB + 12345


def everything(stdin: Stdin) -> bytes:
    return b"".join(iter(lambda: stdin.read(SLICE), b"")) if stdin is not None and not isinstance(stdin, bytes) else stdin or b""


class Counting(LocalTransport):
    """Counts the bytes sent and the commands run."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.commands = 0

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        self.commands += 1
        data = everything(stdin)
        self.sent += len(data)
        return super().exec(command, data, timeout=timeout, on_stdout=on_stdout, on_stderr=on_stderr)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "file.bin"
    path.write_bytes(os.urandom(BIG))
    return path


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several slices without hundreds of megabytes."""
    monkeypatch.setattr(upload, "SLICE", MB)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("data", [b"", b"hello\n", bytes(range(256)) * 3000], ids=["empty", "text", "binary"])
def test_bytes_are_put_once_and_compared_after(transport: Transport, pod: Path, data: bytes) -> None:
    path = pod / "new/folder/a name"
    assert put_bytes(transport, str(path), data)
    assert not put_bytes(transport, str(path), data)
    assert path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o644
    assert names(path.parent) == ["a name"]


def test_a_changed_mode_alone_is_a_change(transport: Transport, pod: Path) -> None:
    put_bytes(transport, str(pod / "f"), b"x", 0o600)
    assert put_bytes(transport, str(pod / "f"), b"x", 0o755)
    assert (pod / "f").stat().st_mode & 0o777 == 0o755


def test_a_put_that_is_cut_off_leaves_the_old_file(server: Server, proxy: Proxy, pod: Path) -> None:
    (pod / "f").write_bytes(b"old")

    class CutShort(LocalTransport):
        """Delivers half of the input, as a link does that dies in the middle."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            return super().exec(command, stdin[: len(stdin) // 2], **more)

    with pytest.raises(PodFailed, match="did not arrive whole"):
        put_bytes(CutShort(), str(pod / "f"), b"the new content")
    assert (pod / "f").read_bytes() == b"old" and names(pod) == ["f"]


def test_a_folder_is_never_overwritten_by_a_file(transport: Transport, pod: Path, big: Path) -> None:
    (pod / "f").mkdir()
    with pytest.raises(PodFailed, match="is a directory"):
        put_bytes(transport, str(pod / "f"), b"x")
    with pytest.raises(PodFailed, match="is a directory"):
        put_file(transport, big, str(pod / "f"))


def test_a_reader_sees_the_old_or_the_new_file_never_a_part(pod: Path) -> None:
    path = pod / "f"
    path.write_bytes(b"a" * 500_000)
    with path.open("rb") as before:
        put_bytes(LocalTransport(), str(path), b"b" * 500_000)
        assert before.read() == b"a" * 500_000
    assert path.read_bytes() == b"b" * 500_000


def test_a_big_file_goes_up_in_slices_and_is_verified(transport: Transport, pod: Path, big: Path) -> None:
    seen: list[int] = []
    assert put_file(transport, big, str(pod / "in/big"), on_progress=lambda done, total: seen.append(done))
    assert sha256_of(pod / "in/big") == sha256_of(big)
    assert max(seen) == BIG and seen == sorted(seen)
    assert not put_file(transport, big, str(pod / "in/big"))
    assert names(pod / "in") == ["big"]


def test_an_unchanged_big_file_is_not_sent_again(pod: Path, big: Path) -> None:
    t = Counting()
    put_file(t, big, str(pod / "big"))
    t.sent = t.commands = 0
    assert not put_file(t, big, str(pod / "big"))
    assert (t.sent, t.commands) == (0, 1)


def test_an_upload_resumes_with_the_slices_that_are_missing(pod: Path, big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "CHANNELS", 1)

    class Cutting(Counting):
        """Loses the link in the third slice."""

        whole = False

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            if "dd of=" in command and not self.whole:
                super().exec(command, everything(stdin)[: 2 * MB + 1000], **more)
                raise Unreachable("the link is gone")
            return super().exec(command, stdin, **more)

    t = Cutting()
    with pytest.raises(Unreachable):
        put_file(t, big, str(pod / "big"))
    assert not (pod / "big").exists()
    t.sent, t.whole = 0, True
    assert put_file(t, big, str(pod / "big"))
    assert BIG - 2 * MB <= t.sent < BIG - MB
    assert sha256_of(pod / "big") == sha256_of(big) and names(pod) == ["big"]


@pytest.mark.parametrize("sessions", [0, 1, 3])
def test_the_sessions_that_a_server_grants_send_all_slices(sessions: int, pod: Path, big: Path) -> None:
    class Refusing(Counting):
        """Grants so many sessions for slices."""

        left = sessions

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            if "dd of=" in command:
                self.left -= 1
                if self.left < 0:
                    raise NotSent("the server refuses another session")
            return super().exec(command, stdin, **more)

    t = Refusing()
    if not sessions:
        with pytest.raises(NotSent):
            put_file(t, big, str(pod / "big"))
        return
    assert put_file(t, big, str(pod / "big"))
    assert sha256_of(pod / "big") == sha256_of(big)


def test_a_session_that_is_refused_takes_no_other_its_link(pod: Path, big: Path) -> None:
    closed, refused = list[int](), threading.Event()

    class OneSession(LocalTransport):
        """Grants one session for slices, and refuses the others after a while."""

        left = 1

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            if "dd of=" in command:
                self.left -= 1
                if self.left < 0:
                    refused.set()
                    raise NotSent("the server refuses another session")
                assert refused.wait(10)
            return super().exec(command, stdin, **more)

        def close(self) -> None:
            closed.append(self.left)

    t = OneSession()
    assert put_file(Reconnecting(lambda: t), big, str(pod / "big")) and sha256_of(pod / "big") == sha256_of(big)
    assert closed == []


def test_a_file_that_is_needed_is_sent_while_it_is_looked_for_and_ends_with_a_command(pod: Path, big: Path) -> None:
    t = LocalTransport()
    for _ in range(2):
        end = send_file(t, big, str(pod / "big"), sha256=sha256_of(big))
        assert t.exec(f"{end}\necho and on") == CommandResult(0, b"and on\n", b"")
        assert sha256_of(pod / "big") == sha256_of(big) and names(pod) == ["big"]
    assert end == ""


def test_a_big_file_is_hashed_while_it_is_sent(pod: Path, big: Path, tmp_path: Path) -> None:
    log, openssl = tmp_path / "log", tmp_path / "openssl"
    openssl.write_text(f'#!/bin/sh\nreadlink /proc/self/fd/0 >>{log}\nexec {shutil.which("openssl")} "$@"\n')
    openssl.chmod(0o755)
    t = LocalTransport(env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    assert put_file(t, big, str(pod / "f"))
    assert (pod / "f").read_bytes() == big.read_bytes() and [path.name for path in pod.iterdir()] == ["f"]
    # Once for all of it, from the pipe of what arrives; the others are asked whether there is an openssl.
    asked = [line for line in log.read_text().splitlines() if line != "/dev/null"]
    assert len(asked) == 1 and asked[0].startswith("pipe:")


def test_a_slice_that_cannot_be_written_ends_the_upload(pod: Path, big: Path) -> None:
    class Full(LocalTransport):
        """A disk that is full."""

        lanes = 0

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            self.lanes += "dd of=" in command
            return super().exec(command.replace("dd of=", "echo no space left; false of="), stdin, **more)

    t = Full()
    with pytest.raises(PodFailed, match="no space left"):
        put_file(t, big, str(pod / "big"))
    assert not (pod / "big").exists()


def test_a_hash_is_the_same_with_and_without_openssl(pod: Path, tmp_path: Path) -> None:
    (pod / "x").write_bytes(b"x" * 3_000_000)
    digests = set()
    for said in ("exit 1", "echo no such command", ""):
        tools = tmp_path / f"bin{said}"
        tools.mkdir()
        if said:
            (tools / "openssl").write_text(f"#!/bin/sh\n{said}\n")
            (tools / "openssl").chmod(0o755)
        t = LocalTransport(env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"})
        digests.add(get_file(t, str(pod / "x"), tmp_path / f"x{said}"))
    assert digests == {sha256_of(pod / "x")}


def test_a_real_cut_in_an_upload_is_unreachable_and_the_next_call_finishes(proxy: Proxy, pod: Path, big: Path) -> None:
    with connect(proxy.address) as t:

        def cut(done: int, total: int) -> None:
            proxy.cut()

        with pytest.raises(Unreachable):
            put_file(t, big, str(pod / "big"), on_progress=cut)
    assert not (pod / "big").exists()
    with connect(proxy.address) as t:
        assert put_file(t, big, str(pod / "big"))
        assert sha256_of(pod / "big") == sha256_of(big)
        (pod / ".big.slices-0123456789abcdef").write_bytes(b"left by a transfer that was cut off, before the file came another way")
        assert not put_file(t, big, str(pod / "big"))
    assert [path.name for path in pod.iterdir() if "slices" in path.name] == []


def test_bytes_damaged_on_the_way_never_take_the_files_place(pod: Path, big: Path) -> None:
    class Damaging(LocalTransport):
        """Flips one byte of what is sent."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            data = bytearray(everything(stdin))
            if data:
                data[len(data) // 2] ^= 1
            return super().exec(command, bytes(data), **more)

    with pytest.raises(PodFailed, match="another sha256"):
        put_file(Damaging(), big, str(pod / "big"))
    assert names(pod) == []


def test_a_download_is_verified_and_not_repeated(transport: Transport, pod: Path, tmp_path: Path, big: Path) -> None:
    expected = sha256_of(big)
    assert get_file(transport, str(big), tmp_path / "down/f") == expected
    assert sha256_of(tmp_path / "down/f") == expected and names(tmp_path / "down") == ["f"]
    before = (tmp_path / "down/f").stat().st_mtime_ns
    assert get_file(transport, str(big), tmp_path / "down/f", expected) == expected
    assert (tmp_path / "down/f").stat().st_mtime_ns == before


def test_a_download_goes_on_where_the_link_was_cut(proxy: Proxy, tmp_path: Path, big: Path) -> None:
    local = tmp_path / "f"
    with connect(proxy.address) as t:
        proxy.cut_after = 3_000_000
        with pytest.raises(Unreachable):
            get_file(t, str(big), local)
    assert not local.exists()
    (part,) = tmp_path.glob(".f.part-*")
    have = part.stat().st_size
    assert 100_000 < have < BIG
    first: list[int] = []
    with connect(proxy.address) as t:
        get_file(t, str(big), local, on_progress=lambda done, total: first.append(done))
    assert first[0] > have - 64 * 1024 and sha256_of(local) == sha256_of(big)


def test_a_download_with_another_hash_than_promised_is_refused_and_removed(transport: Transport, pod: Path, tmp_path: Path) -> None:
    (pod / "f").write_bytes(b"other")
    with pytest.raises(PodFailed, match="has the sha256"):
        get_file(transport, str(pod / "f"), tmp_path / "d/f", hashlib.sha256(b"promised").hexdigest())
    assert names(tmp_path / "d") == []


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 3 * 64 * 1024 + 1], ids=["empty", "small", "a block", "blocks"])
def test_a_file_comes_home_in_one_command_and_is_asked_for_once_more_in_one(pod: Path, tmp_path: Path, size: int) -> None:
    (pod / "f").write_bytes(os.urandom(size))
    t = Counting()
    assert fetch(t, str(pod / "f"), tmp_path / "f") == Brought("file", sha256_of(pod / "f"))
    assert fetch(t, str(pod / "f"), tmp_path / "f") == Brought("same", sha256_of(pod / "f"))
    assert (tmp_path / "f").read_bytes() == (pod / "f").read_bytes() and t.commands == 2


def test_a_file_that_the_kernel_hands_out_by_small_pieces_comes_whole(tmp_path: Path) -> None:
    crypto = Path("/proc/crypto")
    if not crypto.is_file() or len(crypto.read_bytes()) < 8192:
        pytest.skip("no long file of the kernel here")
    assert fetch(LocalTransport(), str(crypto), tmp_path / "f").kind == "file"
    assert (tmp_path / "f").read_bytes() == crypto.read_bytes()


def test_what_has_come_of_another_version_is_not_gone_on_with(pod: Path, tmp_path: Path) -> None:
    (pod / "f").write_bytes(b"new" * 100_000)
    (tmp_path / ".f.part-1.1").write_bytes(b"old" * 50_000)
    assert fetch(LocalTransport(), str(pod / "f"), tmp_path / "f").kind == "file"
    assert (tmp_path / "f").read_bytes() == (pod / "f").read_bytes()


def test_what_is_no_file_is_told_and_nothing_is_made_here(pod: Path, tmp_path: Path) -> None:
    (pod / "folder").mkdir()
    os.mkfifo(pod / "pipe")
    kinds = [fetch(LocalTransport(), str(pod / name), tmp_path / "new/f").kind for name in ("folder", "pipe", "none")]
    assert kinds == ["folder", "pipe", "absent"] and not (tmp_path / "new").exists()


@pytest.mark.parametrize("answer", [b"file 1 ../../evil 0\nx", b"file -1 1.1 0\n", b"x" * 5000], ids=["name", "size", "endless"])
def test_what_a_pod_makes_up_about_a_file_is_refused(tmp_path: Path, answer: bytes) -> None:
    class Hostile(LocalTransport):
        """Answers what it likes."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            more["on_stdout"](answer)
            return CommandResult(0, b"", b"")

    with pytest.raises(PodFailed, match="not to be understood"):
        fetch(Hostile(), "/x", tmp_path / "f")
    assert names(tmp_path) == []


def test_a_missing_remote_file_is_named(transport: Transport, pod: Path, tmp_path: Path) -> None:
    with pytest.raises(PodFailed, match="there is no file"):
        get_file(transport, str(pod / "none"), tmp_path / "f")


def make_tree(top: Path) -> None:
    for name, data in {"a.py": b"1", "sub/b c.txt": b"two", "sub/deep/é": b"", "run.sh": b"#!/bin/sh\n"}.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(data)
    (top / "run.sh").chmod(0o755)
    (top / "empty").mkdir()
    (top / "link").symlink_to("a.py")
    (top / "sub/loop").symlink_to("..")


def test_a_tree_goes_up_and_comes_back_the_same(transport: Transport, pod: Path, tmp_path: Path) -> None:
    make_tree(tmp_path / "up")
    assert put_tree(transport, tmp_path / "up", str(pod / "t")) == ["a.py", "empty/", "link", "run.sh", "sub/b c.txt", "sub/deep/é"]
    assert put_tree(transport, tmp_path / "up", str(pod / "t")) == []
    assert (pod / "t/empty").is_dir() and os.access(pod / "t/run.sh", os.X_OK) and not os.access(pod / "t/a.py", os.X_OK)
    (tmp_path / "up/a.py").write_bytes(b"changed")
    assert put_tree(transport, tmp_path / "up", str(pod / "t")) == ["a.py", "link"]
    assert get_tree(transport, str(pod / "t"), tmp_path / "down") == ["a.py", "link", "run.sh", "sub/b c.txt", "sub/deep/é"]
    assert (tmp_path / "down/sub/b c.txt").read_bytes() == b"two"
    assert next((file.path, file.size) for file in list_tree(transport, str(pod / "t"))) == ("a.py", 7)


def test_names_of_any_bytes_go_up_and_come_back(transport: Transport, pod: Path, tmp_path: Path) -> None:
    odd = ["line\nbreak/a\nb", "back\\slash", " spaces ", "quote'\"", os.fsdecode(b"latin-\xe9"), "-n", "$HOME", "\ttab"]
    for number, name in enumerate(odd):
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_text(str(number))
    assert put_tree(transport, tmp_path / "up", str(pod / "t")) == sorted(odd)
    assert [(file.path, file.size) for file in list_tree(transport, str(pod / "t"))] == [(name, 1) for name in sorted(odd)]
    assert get_tree(transport, str(pod / "t"), tmp_path / "down") == sorted(odd)
    assert all((tmp_path / "down" / name).read_text() == str(number) for number, name in enumerate(odd))


def test_a_pipe_among_the_files_is_named_and_nobody_waits_for_it(pod: Path, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    os.mkfifo(tmp_path / "t/pipe")
    with pytest.raises(UserError, match=r"t/pipe is neither a file nor a folder"):
        put_tree(LocalTransport(), tmp_path / "t", str(pod / "t"))


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_a_file_that_is_there_keeps_its_mode_when_that_is_asked_for(transport: Transport, pod: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "new").write_bytes(b"n" * size)
    (pod / "f").write_bytes(b"old")
    (pod / "f").chmod(0o600)
    for changed in (True, False):
        assert put_file(transport, tmp_path / "new", str(pod / "f"), mode=0o644, keep_mode=True) is changed
        assert (pod / "f").stat().st_mode & 0o777 == 0o600 and (pod / "f").stat().st_size == size
    assert put_file(transport, tmp_path / "new", str(pod / "f"), mode=0o644)
    assert (pod / "f").stat().st_mode & 0o777 == 0o644


def test_an_empty_tree_is_no_error(transport: Transport, pod: Path, tmp_path: Path) -> None:
    (pod / "t").mkdir()
    assert get_tree(transport, str(pod / "t"), tmp_path / "down") == []


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "./../evil"])
def test_a_pod_cannot_make_us_write_outside_the_folder(tmp_path: Path, name: str) -> None:
    class Hostile(LocalTransport):
        """Lists a name of its own choice."""

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            return CommandResult(0, f"{'0' * 64}  {name}\n\n".encode(), b"")

    with pytest.raises(PodFailed, match="not taken"):
        get_tree(Hostile(), "/x", tmp_path / "down")


def test_local_mistakes_are_told_before_anything_is_sent(pod: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        put_file(LocalTransport(), tmp_path / "none", str(pod / "f"))
    (tmp_path / "t").mkdir()
    (tmp_path / "t/dangling").symlink_to("nowhere")
    with pytest.raises(UserError, match="a link to nothing"):
        put_tree(LocalTransport(), tmp_path / "t", str(pod / "t"))
    with pytest.raises(UserError, match="is not a folder"):
        put_tree(LocalTransport(), tmp_path / "none", str(pod / "t"))
    assert names(pod) == []
