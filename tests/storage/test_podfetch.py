"""Objects on their way to a pod: by the real server and presigned URLs, through cuts, kills, lies and full disks."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import change_program, here
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.errors import PodFailed, StoreError, Unreachable
from trainyard.pod.files import crc32_text, hash_file
from trainyard.remote.protocol import CommandResult, NotSent, OnBytes, Stdin
from trainyard.storage import podfetch
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.deliver import Progress
from trainyard.storage.manifest import entry_of
from trainyard.storage.podfetch import PodFetch, fetch_to_pod
from trainyard.storage.podtargets import Extent, PodTarget, StoredObject, target_of, target_of_object
from trainyard.storage.signing import signed_url

MIB = 1 << 20


def put(settings: StoreSettings, key: str, body: bytes) -> StoredObject:
    """Put an object; return it as it was seen."""
    etag = s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=body)["ETag"]
    return StoredObject(key, etag)


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def whole(source: StoredObject, path: str, body: bytes, size: int = MIB) -> PodTarget:
    """Return a target of one object, in extents of some size, each with its CRC32."""
    crc = crc32_text
    extents = [Extent(source, at, len(body[at : at + size]), crc(zlib.crc32(body[at : at + size]))) for at in range(0, len(body), size)]
    return PodTarget(path, len(body), sha(body), tuple(extents))


def fetch(settings: StoreSettings, folder: Path, targets: list[PodTarget], **more: object) -> PodFetch:
    folder.mkdir(exist_ok=True)
    with here() as transport:
        return fetch_to_pod(settings, transport, str(folder), targets, pause=lambda _: None, **more)  # type: ignore[arg-type]


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_files_of_many_parts_small_ones_and_empty_ones_arrive_proven(settings: StoreSettings, tmp_path: Path) -> None:
    big, pack = os.urandom(5 * MIB + 3), b"".join(b"%06d\n" % n for n in range(1000))
    chunk, bundle = put(settings, "data/big", big), put(settings, "data/pack", pack)
    small = [PodTarget(f"rows/{n}", 7, sha(b"%06d\n" % n), (Extent(bundle, 7 * n, 7),)) for n in range(0, 1000, 3)]
    odd = PodTarget("a b/ü'\"$x.txt", 14, sha(pack[:14]), (Extent(bundle, 0, 7), Extent(bundle, 7, 7)))
    seen: list[Progress] = []
    targets = [whole(chunk, "deep/er/big", big), *small, PodTarget("none", 0, sha(b""), ()), odd]
    done = fetch(settings, tmp_path / "in", targets, on_progress=seen.append)
    assert (tmp_path / "in/deep/er/big").read_bytes() == big
    assert all((tmp_path / f"in/rows/{n}").read_bytes() == b"%06d\n" % n for n in range(0, 1000, 3))
    assert (tmp_path / "in/none").read_bytes() == b"" and (tmp_path / "in" / odd.path).read_bytes() == pack[:14]
    assert not (tmp_path / "in/.trainyard-fetch").exists() and done.road == "store" and done.kept == 0
    assert seen[-1].done == seen[-1].total == len(big) + 7 * len(small) + 14
    again = fetch(settings, tmp_path / "in", [whole(chunk, "deep/er/big", big), *small])
    assert again.moved == 0 and again.kept == 1 + len(small), "what lies there is not fetched again"


def test_what_a_cut_transfer_over_ssh_has_left_goes_with_the_fetch_that_succeeds(settings: StoreSettings, tmp_path: Path) -> None:
    body = os.urandom(MIB)
    source = put(settings, "data/x", body)
    (tmp_path / "in/a").mkdir(parents=True)
    for name in (".x.slices-0123456789abcdef", ".y.slices-0123456789abcdef", "x.slices-mine"):
        (tmp_path / "in/a" / name).write_bytes(b"half")

    fetch(settings, tmp_path / "in", [whole(source, "a/x", body)])

    assert files_in(tmp_path / "in") == ["a/.y.slices-0123456789abcdef", "a/x", "a/x.slices-mine"], "what is another's stays"


def test_a_file_of_a_manifest_and_an_object_that_nobody_has_read(settings: StoreSettings, tmp_path: Path) -> None:
    body = os.urandom(2 * MIB + 5)
    (tmp_path / "b").write_bytes(body)
    source = put(settings, "models/a/b/1/model/w", body)
    entry = entry_of({**hash_file(str(tmp_path / "b"), MIB, False)[0], "path": "w"})
    done = fetch(settings, tmp_path / "in", [target_of(entry, source.key, "w"), target_of_object(source, "x", len(body))])
    assert (tmp_path / "in/w").read_bytes() == (tmp_path / "in/x").read_bytes() == body
    assert done.sha256 == {"w": sha(body), "x": sha(body)}, "what was read is told"


def test_cuts_errors_and_damage_on_the_way_are_mended(through: StoreSettings, proxy: LyingProxy, tmp_path: Path, quick: None) -> None:
    body = os.urandom(4 * MIB)
    source = put(through, "data/x", body)
    proxy.faults += [Fault("Get", "fail", 2, status=503), Fault("Get", "drop"), Fault("Get", "garble"), Fault("Get", "cut", 2)]
    assert fetch(through, tmp_path / "in", [whole(source, "x", body)]).sha256 == {"x": sha(body)}
    assert (tmp_path / "in/x").read_bytes() == body
    assert [fault.done for fault in proxy.faults] == [2, 1, 1, 2]


def test_bytes_that_are_never_right_get_no_name(through: StoreSettings, proxy: LyingProxy, tmp_path: Path, quick: None) -> None:
    body = os.urandom(2 * MIB)
    source = put(through, "data/x", body)
    proxy.faults += [Fault("Get", "garble", 10_000)]
    for target in (
        whole(source, "x", body),
        target_of_object(source, "y", len(body), sha(body)),
    ):
        with pytest.raises(StoreError, match=r"not fetched to the pod: [xyz] .Damaged"):
            fetch(through, tmp_path / "in", [target])
    assert all(name.startswith(".trainyard-fetch/") for name in files_in(tmp_path / "in"))
    proxy.reset()
    assert fetch(through, tmp_path / "in", [whole(source, "x", body)]).sha256 == {"x": sha(body)}


def test_an_object_that_was_changed_or_is_missing_is_told_at_once(settings: StoreSettings, tmp_path: Path) -> None:
    source = put(settings, "rows.jsonl", b"one\n")
    put(settings, "rows.jsonl", b"two\n")
    with pytest.raises(StoreError, match=r"rows, from s3://t-\w+/rows.jsonl: it was changed since it was looked at"):
        fetch(settings, tmp_path / "in", [target_of_object(source, "rows", 4)])
    with pytest.raises(StoreError, match=r"rows, from s3://t-\w+/gone: it is not in the bucket"):
        fetch(settings, tmp_path / "in", [target_of_object(StoredObject("gone"), "rows", 4)])


def test_urls_that_are_over_are_signed_anew(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, lives = b"x" * 100, [1, 600]
    source = put(settings, "data/x", body)

    def sign(*words: Any, most: float) -> str:
        return signed_url(*words, most=lives.pop(0))

    def slow_link(self: object, order: object = podfetch._Order.encode) -> bytes:
        text: bytes = order(self)  # type: ignore[operator]
        time.sleep(2 if lives else 0)
        return text

    monkeypatch.setattr(podfetch, "signed_url", sign)
    monkeypatch.setattr(podfetch._Order, "encode", slow_link)
    assert fetch(settings, tmp_path / "in", [whole(source, "x", body)]).sha256 == {"x": sha(body)}
    assert lives == []


def test_after_a_kill_only_the_rest_is_fetched(
    through: StoreSettings, proxy: LyingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETCH_TEST", str(tmp_path))
    body = os.urandom(12 * MIB)
    target = whole(put(through, "data/x", body), "x", body)
    folder = tmp_path / "in"

    def kill() -> None:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                ours = f"FETCH_TEST={tmp_path}".encode() in (entry / "environ").read_bytes()
                if ours and (entry / "cmdline").read_bytes().startswith(b"python3"):
                    os.kill(int(entry.name), signal.SIGKILL)

    change_program(monkeypatch, {b"32 << 20": b"1 << 20", b'get("threads", 8)': b'get("threads", 1)'})
    proxy.faults += [Fault("Get", "call", after=8, then=kill)]
    with pytest.raises(StoreError, match="the fetcher on the pod ended with 137"):
        fetch(through, folder, [target])
    assert not (folder / "x").exists()
    assert fetch(through, folder, [target]).moved == len(body) - 8 * MIB
    assert (folder / "x").read_bytes() == body


def test_a_pod_without_python_or_a_way_to_the_store_gets_its_files_over_ssh(settings: StoreSettings, tmp_path: Path, quick: None) -> None:
    body = os.urandom(MIB + 1)
    source = put(settings, "data/x", body)
    nowhere = replace(settings, presign=False)
    done = fetch(nowhere, tmp_path / "a", [whole(source, "d/x", body), PodTarget("e", 0, sha(b""), ())])
    assert done.road == "ssh" and (tmp_path / "a/d/x").read_bytes() == body and (tmp_path / "a/e").read_bytes() == b""
    assert fetch(nowhere, tmp_path / "a", [whole(source, "d/x", body)]).moved == 0
    with pytest.raises(StoreError, match="not what was announced"):
        fetch(nowhere, tmp_path / "b", [target_of_object(source, "x", len(body), "0" * 64)])


@pytest.mark.usefixtures("store_places")
def test_a_mounted_bucket_is_read_where_it_lies(settings: StoreSettings, tmp_path: Path) -> None:
    body = os.urandom(3 * MIB)
    source = put(settings, "data/x", body)
    mounted = replace(settings, presign=False)
    assert settings.data_dir
    done = fetch(mounted, tmp_path / "in", [whole(source, "x", body)], volume=str(settings.data_dir / settings.bucket))
    assert done.road == "volume" and (tmp_path / "in/x").read_bytes() == body
    done = fetch(mounted, tmp_path / "in", [whole(source, "y", body)], volume=str(settings.data_dir / "another"))
    assert done.road == "ssh" and (tmp_path / "in/y").read_bytes() == body, "another bucket is mounted there"


def test_what_lies_in_the_way_is_told(settings: StoreSettings, tmp_path: Path) -> None:
    (tmp_path / "in/x").mkdir(parents=True)
    with pytest.raises(PodFailed, match="x cannot be written: Is a directory"):
        fetch(settings, tmp_path / "in", [whole(put(settings, "data/x", b"1"), "x", b"1")])


class Cut:
    """A transport that loses its link: before a command is sent, or when it has run."""

    def __init__(self, losses: list[str]) -> None:
        self.losses, self.inner, self.name = losses, here(), "pod"

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        loss = self.losses.pop(0) if self.losses else ""
        if loss == "before":
            raise NotSent("no route")
        done = self.inner.exec(command, stdin, timeout=timeout, on_stdout=(lambda _: None) if loss else on_stdout, on_stderr=on_stderr)
        if loss:
            raise Unreachable("lost")
        return done

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Cut:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_lost_link_is_waited_for(settings: StoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = os.urandom(3 * MIB)
    target = whole(put(settings, "data/x", body), "x", body)
    (tmp_path / "in").mkdir()
    paused: list[float] = []
    with Cut(["before", "before", "after"]) as transport:
        done = fetch_to_pod(settings, transport, str(tmp_path / "in"), [target], pause=paused.append)
    assert done.kept == 1 and done.sha256 == {"x": sha(body)} and len(paused) == 3
    with Cut(["before"] * 1000) as transport, pytest.raises(Unreachable):
        fetch_to_pod(settings, transport, str(tmp_path / "in"), [target], pause=paused.append)
    assert podfetch.LINK_PATIENCE <= sum(paused) < podfetch.LINK_PATIENCE + 60


class Chatty(Cut):
    """A transport to a pod whose shell says something before each command."""

    def exec(
        self, command: str, stdin: Stdin = None, *,
        timeout: float | None = None, on_stdout: OnBytes | None = None, on_stderr: OnBytes | None = None,
    ) -> CommandResult:  # fmt: skip
        return super().exec(f"echo welcome; echo 42; echo []; {command}", stdin, timeout=timeout, on_stdout=on_stdout, on_stderr=on_stderr)


def test_what_a_pods_shell_says_is_no_event_even_if_it_is_json(settings: StoreSettings, tmp_path: Path) -> None:
    target = whole(put(settings, "data/x", b"body"), "x", b"body")
    (tmp_path / "in").mkdir()
    with Chatty([]) as transport:
        assert fetch_to_pod(settings, transport, str(tmp_path / "in"), [target]).sha256 == {"x": sha(b"body")}
