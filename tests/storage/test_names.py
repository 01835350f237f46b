"""One rule for names: what the pod commits, the bucket gives back and the way over SSH brings, whatever it is called."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st

from tests.storage.conftest import here, tree
from trainyard.pod.files import name_problem
from trainyard.pod.scanner import scan
from trainyard.storage import direct
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.download import download
from trainyard.storage.manifest import ResultKey, decode, sha256

KEY = ResultKey("u", "r1", 1)
ODD = [
    "a", ".a.part", "a.part", ".b.part", "b", "back\\slash", "x" * 232, "x" * 240, "x" * 250, "x" * 255, "ü" * 127,
    "with space", " lead and trail ", "ünïcødé-模型.txt", "a\u030a", "\u00e5", "a+b%20c%2Fd&e=f?g#h", "-leading-dash",
    "quote'\"$(x)`y`;*", "tilde~!@^{}[]|<>,:", ".hidden", "...", "A", "/".join(f"level-{i}" for i in range(40)),
    ".trainyard-download/x", ".trainyard-download_", "%2e%2e", "_SUCCESS", "c/.sgwtmp/d", "\U0001f600",
]  # fmt: skip
UNCARRIED = [b"new\nline", b"\xff\xfe", b"del\x7f"]
segments = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.sampled_from(["..", ".", "...", "x" * 255, "é" * 128, "a\\b", "a\nb"]),
)
paths = st.lists(segments, min_size=1, max_size=5).map("/".join)


def lay(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        path = root / "output/model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number + os.urandom(number))


def test_odd_names_come_home_byte_for_byte_by_both_roads(settings: StoreSettings, tmp_path: Path) -> None:
    lay(tmp_path, ODD)
    model = tmp_path / "output/model"
    want = tree(model)
    assert len(want) == len(ODD)
    for raw in UNCARRIED:
        with open(os.fsencode(model) + b"/" + raw, "wb"):
            pass
    output = str(tmp_path / "output")
    done = commit(settings, here(), KEY, output, ["model/**"], logs={})
    assert done.files == len(ODD) and [entry.wanted for entry in done.left_out] == [True] * len(UNCARRIED)
    download(settings, "u/r1", tmp_path / "bucket")
    assert tree(tmp_path / "bucket") == want
    got = direct.fetch(here(), KEY, output, ["model/**"], [], tmp_path / "ssh")
    assert tree(tmp_path / "ssh/model") == want and got.left_out == done.left_out


KEPT_NAMES = ["_manifest.json/x", "_SUCCESS/y", "_KEPT/z", "_POD_COMMITTED/q"]


def test_below_the_names_of_the_commit_nothing_is_carried_and_nothing_of_ours_takes_a_name_of_the_result(
    settings: StoreSettings, tmp_path: Path
) -> None:
    lay(tmp_path, [f"../{name}" for name in (*KEPT_NAMES, "._manifest.json.new", "model/a")])
    output = str(tmp_path / "output")
    done = commit(settings, here(), KEY, output, ["**"], logs={})
    assert sorted((e.path, e.why) for e in done.left_out) == [(n, "its name is kept for the commit itself") for n in sorted(KEPT_NAMES)]
    got = direct.fetch(here(), KEY, output, ["**"], [], tmp_path / "ssh")
    assert got.left_out == done.left_out and got.files == done.files == 2
    assert set(tree(tmp_path / "ssh")) == {"_manifest.json", "._manifest.json.new", "model/a"}


@given(st.lists(paths, min_size=1, max_size=20))
@trying(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_path_that_the_pod_takes_the_manifest_takes_and_no_other(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        placed = []
        for name in names:
            path = Path(folder, name)
            try:
                if any(p in ("..", ".") for p in name.split("/")) or path.exists():
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
            except OSError:
                continue
            placed.append(name)
        spec = {"root": folder, "outputs": ["**"], "excludes": [], "extra": [], "part_size": 64, "md5": False}
        found = scan(spec)
        taken = [entry["path"] for entry in found["files"]]
        assert sorted(taken) == sorted(name for name in placed if name_problem(name) is None)
        assert len(taken) + len(found["left_out"]) == len(placed)
        body = _manifest(found["files"])
        assert [entry.path for entry in decode(body, "here").files] == taken


def _manifest(files: list[dict[str, object]]) -> bytes:
    from trainyard.storage.commit import manifest_of

    return manifest_of(KEY, "t" * 32, {"files": files, "left_out": [], "unreadable": []}, set()).encode()


def test_a_pod_without_python_brings_the_same_files_and_names_the_rest(tmp_path: Path) -> None:
    lay(tmp_path, ODD)
    model = tmp_path / "output/model"
    os.mkfifo(model / "pipe")
    os.symlink("a", model / "link")
    with open(os.fsencode(model) + b"/new\nline", "wb"):
        pass
    want = {name: (model / name).read_bytes() for name in ODD}
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "mkdir", "mv", "find", "sha256sum", "wc", "tail", "head", "xargs"):
        os.symlink(next(p for p in (Path("/usr/bin") / name, Path("/bin") / name) if p.exists()), tools / name)
    from trainyard.remote.local import LocalTransport

    bare = LocalTransport(env={"PATH": str(tools)})
    got = direct.fetch(bare, KEY, str(tmp_path / "output"), ["model/**"], [], tmp_path / "home")
    assert tree(tmp_path / "home/model") == want
    assert [entry.path for entry in got.left_out if entry.wanted] == ["model/link", "model/new\\nline", "model/pipe"]
    assert decode((tmp_path / "home/_manifest.json").read_bytes(), "home") and got.manifest_sha256 == sha256(
        (tmp_path / "home/_manifest.json").read_bytes()
    )


@pytest.mark.parametrize("name", [".b.part", "x" * 255])
def test_a_second_fetch_finds_what_is_there_whatever_it_is_called(name: str, settings: StoreSettings, tmp_path: Path) -> None:
    lay(tmp_path, [name, "b"])
    commit(settings, here(), KEY, str(tmp_path / "output"), ["model/**"], logs={})
    assert [download(settings, "u/r1", tmp_path / "home").reused for _ in range(2)] == [0, 2]
