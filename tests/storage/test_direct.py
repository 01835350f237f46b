"""The way over SSH (here: over the local transport): the same files, the same manifest, the same proof."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.storage.conftest import PART, Workspace, here
from tests.storage.test_commit import EXCLUDES, OUTPUTS, WHERE
from trainyard.errors import StoreError, Unreachable
from trainyard.remote import stream
from trainyard.remote.local import LocalTransport
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.deliver import Progress
from trainyard.storage.manifest import PART_SIZE, decode, sha256


def model_of(pod: Workspace) -> dict[str, bytes]:
    folder = pod.root / "output"
    return {str(p.relative_to(folder)): p.read_bytes() for p in (folder / "model").rglob("*") if p.is_file()}


def fetched_files(dest: Path) -> dict[str, bytes]:
    return {str(p.relative_to(dest)): p.read_bytes() for p in dest.rglob("*") if p.is_file() and p.name != "_manifest.json"}


def test_the_result_arrives_with_the_manifest_that_a_commit_would_have_written(
    settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    got = direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert fetched_files(tmp_path / "home") == model_of(pod)
    body = (tmp_path / "home/_manifest.json").read_bytes()
    assert got.manifest_sha256 == sha256(body) and decode(body, "home").key == WHERE
    assert (got.files, got.bytes) == (4, PART + 7 + 22 + 4)
    done = commit(settings, here(), WHERE, pod.output, OUTPUTS, EXCLUDES, logs={}, part_size=PART_SIZE)
    assert done.manifest_sha256 == got.manifest_sha256 and done.left_out == got.left_out


def test_a_second_fetch_sends_no_file_again(pod: Workspace, tmp_path: Path) -> None:
    commands: list[str] = []

    class Listening(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            commands.append(command)
            return super().exec(command, stdin, **more)

    direct.fetch(Listening(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert any("dd if=" in command for command in commands)
    commands.clear()
    direct.fetch(Listening(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert not any("dd if=" in command for command in commands)


def test_a_file_that_changes_while_it_is_fetched_is_never_taken(pod: Workspace, tmp_path: Path) -> None:
    class Changing(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            if "xargs -0 cat" in command:
                (pod.root / "output/model/config.json").write_bytes(b"x" * 22)
            return super().exec(command, stdin, **more)

    with pytest.raises(StoreError, match=r"config\.json"):
        direct.fetch(Changing(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert not (tmp_path / "home/model/config.json").exists()


def test_many_small_files_share_a_stream_and_a_lost_link_costs_only_what_had_not_come(
    pod: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "FILES", 40)
    monkeypatch.setattr(direct, "CHANNELS", 1)
    for number in range(100):
        (pod.root / f"output/model/part-{number}").write_bytes(b"" if number == 50 else os.urandom(1 + number))

    class Cut(LocalTransport):
        """Loses the link in the middle of the second stream."""

        commands, streams, left = 0, 0, 2

        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            self.commands += 1
            if "xargs -0 cat" not in command:
                return super().exec(command, stdin, **more)
            self.streams, self.left = self.streams + 1, self.left - 1
            if self.left == 0:
                kept = stdin.split(b"\0")[:10]
                super().exec(command, b"\0".join(kept) + b"\0", **more)
                raise Unreachable("the link is lost")
            return super().exec(command, stdin, **more)

    home, cut = tmp_path / "home", Cut()
    with pytest.raises(Unreachable):
        direct.fetch(cut, WHERE, pod.output, OUTPUTS, EXCLUDES, home)
    arrived = [one for one in home.rglob("*") if one.is_file() and one.name != "lock"]
    assert len(arrived) == 40 + 10 + 23, "what came in the stream that was lost is kept, too"
    told: list[Progress] = []
    cut.streams = cut.commands = 0
    direct.fetch(cut, WHERE, pod.output, OUTPUTS, EXCLUDES, home, on_progress=told.append)
    assert fetched_files(home) == model_of(pod) and told[-1].done == told[-1].total
    assert cut.streams == 1 and cut.commands < 12


def test_a_small_file_that_is_gone_keeps_none_of_the_others_from_coming(pod: Workspace, tmp_path: Path) -> None:
    for number in range(20):
        (pod.root / f"output/model/part-{number:02}").write_bytes(os.urandom(100))

    class Losing(LocalTransport):
        def exec(self, command: str, stdin: Any = None, **more: Any) -> Any:
            if "xargs -0 cat" in command:
                (pod.root / "output/model/part-07").unlink(missing_ok=True)
            return super().exec(command, stdin, **more)

    with pytest.raises(StoreError, match=r"there is no file .*part-07"):
        direct.fetch(Losing(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert fetched_files(tmp_path / "home").keys() >= {f"model/part-{number:02}" for number in range(20) if number != 7}


def test_a_pod_without_python_is_fetched_too(pod: Workspace, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "mkdir", "mv", "find", "sha256sum", "wc", "tail", "head", "dd", "xargs"):
        source = next(p for p in (Path("/usr/bin") / name, Path("/bin") / name) if p.exists())
        os.symlink(source, tools / name)
    bare = LocalTransport(env={"PATH": str(tools)})
    got = direct.fetch(bare, WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    assert fetched_files(tmp_path / "home") == model_of(pod)
    assert got == direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")


def test_progress_ends_at_the_whole_and_the_watchdog_is_told(pod: Workspace, tmp_path: Path) -> None:
    told: list[Progress] = []
    got = direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home", on_progress=told.append)
    assert max(one.done for one in told) == got.bytes
    assert (pod.root / ".trainyard/committed").read_text().strip() == got.manifest_sha256


def test_what_is_in_the_way_at_home_is_neither_replaced_nor_a_reason_to_keep_the_pod(pod: Workspace, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name, content in {"model/config.json": b"mine", "model/tokenizer": b"a file", "metrics.jsonl": b"our copy", "notes": b"n"}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    (home / "model/empty").mkdir()
    (home / "model/config.json.before-1").write_bytes(b"an older one")

    got = direct.fetch(here(), WHERE, pod.output, [*OUTPUTS, "metrics.jsonl"], EXCLUDES, home, copies=["metrics.jsonl"])

    assert {name: now.name for path, now in got.moved for name in [path.name]} == {
        "config.json": "config.json.before-2", "tokenizer": "tokenizer.before-1", "empty": "empty.before-1",
    }  # fmt: skip
    assert (home / "model/config.json.before-2").read_bytes() == b"mine" and (home / "model/tokenizer.before-1").read_bytes() == b"a file"
    assert {path: body for path, body in fetched_files(home).items() if ".before-" not in path and path != "notes"} == {
        **model_of(pod), "metrics.jsonl": b'{"step": 1}\n',
    }  # fmt: skip
    assert (home / "model/config.json.before-1").read_bytes() == b"an older one" and (home / "notes").read_bytes() == b"n"


def test_a_later_fetch_replaces_what_an_earlier_one_has_brought(pod: Workspace, tmp_path: Path) -> None:
    direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")
    pod.write("output/model/config.json", b"changed since")

    got = direct.fetch(here(), WHERE, pod.output, OUTPUTS, EXCLUDES, tmp_path / "home")

    assert got.moved == () and fetched_files(tmp_path / "home") == model_of(pod)
