"""What a training may leave: each kind writes it below ``model/`` and says itself what of it must arrive, and what must be named."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PART = 5 << 20
"""Parts as small as S3 allows: a few MB are a file of several parts."""
_GROW = (
    "import sys, time\nwith open(sys.argv[1], 'ab', buffering=0) as f:\n    while True:\n        f.write(b'x' * 100); time.sleep(0.002)\n"
)


@dataclass
class Content:
    """One training's output: ``files`` must arrive by these hashes, ``left`` cannot and must be named."""

    root: Path
    files: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    writer: subprocess.Popen[bytes] | None = None
    """A process that goes on writing into it: nothing may be committed before it ends."""
    growing: dict[str, bytes] = field(default_factory=dict)
    """Files that were written to until the first command had ended: any beginning of them is what a scan may have seen."""
    as_nobody: bool = False
    """The pod's programs run without root's rights."""

    def write(self, path: str, body: bytes) -> Path:
        """Write a file that must arrive."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
        self.files[path] = hashlib.sha256(body).hexdigest()
        return target

    def end_writing(self) -> None:
        """End the process that writes."""
        if self.writer is not None:
            self.writer.kill()
            self.writer.wait()
            self.writer = None
            self.growing["model/growing"] = (self.root / "model/growing").read_bytes()


def _plain(made: Content, chance: random.Random) -> None:
    made.write("model/model.safetensors", chance.randbytes(PART + 7))
    made.write("model/config.json", b'{"architectures": []}\n')
    made.write("model/tokenizer/vocab.txt", b"a\nb\n")
    made.write("model/empty", b"")


def _names(made: Content, chance: random.Random) -> None:
    longest = "n" * 251 + ".bin"
    names = [
        "a\\b.txt",
        "-rf",
        "-",
        "~",
        " lead",
        "tail ",
        "caf\u00e9",
        "e\u0301",
        "\u6a21\u578b",
        "q?*[x].txt",
        "a%2Fb+c&d=e;f#g",
        "'\"$(id)`",
        longest,
    ]
    for name in [*names, *(f"model/.{i}.part" for i in range(2))]:
        made.write(name if name.startswith("model/") else f"model/{name}", chance.randbytes(chance.randrange(1, 2000)))
    for name in ("a", ".a.part", ".a.tmp", "A", "x/y/z/deep", "_manifest.json", "_SUCCESS", "lost+found", "...", "CON"):
        made.write(f"model/{name}", name.encode())


def _unnameable(made: Content, chance: random.Random) -> None:
    _plain(made, chance)
    for raw, shown in ((b"new\nline", "new\\nline"), (b"bad\xff", "bad\\xff"), (b"esc\x1b[31m", "esc\\x1b[31m"), (b"del\x7f", "del\\x7f")):
        with open(os.path.join(os.fsencode(made.root), b"model", raw), "wb") as file:
            file.write(b"left out")
        made.left.add(f"model/{shown}")


def _links(made: Content, chance: random.Random) -> None:
    body = chance.randbytes(5000)
    made.write("model/real/weights.bin", body)
    (made.root / "model/best.bin").symlink_to("real/weights.bin")
    (made.root / "model/latest").symlink_to("real")
    for path in ("model/best.bin", "model/latest/weights.bin"):
        made.files[path] = hashlib.sha256(body).hexdigest()
    for name, target in (("outside", "/etc/hostname"), ("dangling", "nothing"), ("circle", "."), ("loop", "loop")):
        (made.root / "model" / name).symlink_to(target)
        made.left.add(f"model/{name}")


def _odd_kinds(made: Content, chance: random.Random) -> None:
    _plain(made, chance)
    os.mkfifo(made.root / "model/pipe")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as door:
        os.chdir(made.root / "model")  # a socket's path has 108 bytes at most
        try:
            door.bind("door")
        finally:
            os.chdir(here)
    made.left |= {"model/pipe", "model/door"}


def _sparse(made: Content, chance: random.Random) -> None:
    body = bytearray(2 * PART + 999)
    body[PART + 17 : PART + 17 + 100] = chance.randbytes(100)
    path = made.root / "model/sparse.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(len(body))
        file.seek(PART + 17)
        file.write(body[PART + 17 : PART + 117])
    made.files["model/sparse.bin"] = hashlib.sha256(body).hexdigest()


def _empty(made: Content, chance: random.Random) -> None:
    for number in range(3):
        made.write(f"model/empty{number}", b"")


def _nothing(made: Content, chance: random.Random) -> None:
    (made.root / "model").mkdir()


def _many(made: Content, chance: random.Random, count: int = 400) -> None:
    for number in range(count):
        made.write(f"model/shards/{number % 20}/{number}.bin", chance.randbytes(chance.randrange(200)))


def _thousands(made: Content, chance: random.Random) -> None:
    _many(made, chance, 10_000)


def _parts(made: Content, chance: random.Random) -> None:
    for number, size in enumerate((3 * PART + 1, 2 * PART, PART + PART // 2, PART)):
        made.write(f"model/model-{number:05}.safetensors", chance.randbytes(size))
    made.write("model/model.safetensors.index.json", b"{}")


def _growing(made: Content, chance: random.Random) -> None:
    _plain(made, chance)
    path = made.root / "model/growing"
    path.write_bytes(b"y" * 1000)
    made.writer = subprocess.Popen([sys.executable, "-c", _GROW, path])


def _unreadable(made: Content, chance: random.Random) -> None:
    _plain(made, chance)
    secret = made.root / "model/unreadable"
    secret.write_bytes(b"nobody may read it")
    secret.chmod(0)
    made.left.add("model/unreadable")
    made.as_nobody = os.getuid() == 0


CONTENTS: dict[str, tuple[Callable[[Content, random.Random], None], int]] = {
    "plain": (_plain, 4), "parts": (_parts, 6), "names": (_names, 4), "unnameable": (_unnameable, 3), "links": (_links, 3),
    "kinds": (_odd_kinds, 2), "sparse": (_sparse, 3), "empty": (_empty, 2), "nothing": (_nothing, 1), "many": (_many, 2),
    "growing": (_growing, 1), "unreadable": (_unreadable, 2), "thousands": (_thousands, 0),
}  # fmt: skip
"""Each kind, and how often it is drawn; ``thousands`` is played twice in a full run, for its time."""


def make(kind: str, root: Path, chance: random.Random) -> Content:
    """Write a training's output of some kind below a folder."""
    root.mkdir(parents=True)
    made = Content(root)
    CONTENTS[kind][0](made, chance)
    (root / "metrics.jsonl").write_bytes(b'{"step": 1}\n')
    (root / "status.json").write_bytes(b'{"state": "done"}\n')
    return made
