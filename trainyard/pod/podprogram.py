"""Programs that a pod runs: modules of this folder that travel together on stdin and are never written to the pod's disk.

A pod whose disk is full is what they must help. Each is sent only what it needs.
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verb = Literal["scan", "look", "sample", "send", "copy", "fetch", "alone", "tell", "contain"]
_SCANNER = ("files", "outputs", "orders", "scanner")
_MODULES: dict[Verb, tuple[str, ...]] = {
    "scan": _SCANNER,
    "look": _SCANNER,
    "sample": _SCANNER,
    "send": ("files", "orders", "links", "uploader"),
    "copy": ("files", "orders", "copier"),
    "fetch": ("files", "orders", "links", "targets", "ranges", "fetcher"),
    "alone": ("files", "outputs", "links", "signed", "tarball", "alone"),
    "tell": ("tell",),
    "contain": ("links", "signed", "live", "arrival", "container"),
}
"""Each module comes after those that it imports; the last one is the program."""


@dataclass(frozen=True, slots=True)
class PodProgram:
    """A program's modules with their texts, in the order in which they are loaded."""

    modules: tuple[tuple[str, bytes], ...]

    @property
    def source(self) -> bytes:
        """What stands on stdin before all else."""
        return b"".join(text for _, text in self.modules)

    def command(self, *arguments: str, options: str = "-I -X utf8") -> str:
        """Return the shell command that loads the program from stdin and runs it.

        `python3` is what every image with a training stack has; -I keeps the pod's PYTHON* variables out, and names of
        files are UTF-8 whatever its locale says.
        """
        *parts, (main, text) = [(name, len(text)) for name, text in self.modules]
        start = "import sys\nread = sys.stdin.buffer.read\n"
        if parts:
            # Each finds those before it under the names by which it imports them here.
            start += (
                f"for name, size in ('trainyard', 0), ('trainyard.pod', 0), {', '.join(map(repr, parts))}:\n"
                " part = sys.modules[name] = type(sys)(name)\n"
                " exec(compile(read(size), name, 'exec'), part.__dict__)\n"
            )
        start += f"exec(compile(read({text}), {main!r}, 'exec'))\n"
        return f"exec python3 {options} -c {shlex.join([start, *arguments])}"


@functools.cache
def pod_program(verb: Verb) -> PodProgram:
    """Return the program that carries out a verb on a pod."""
    folder = Path(__file__).parent
    return PodProgram(tuple((f"{__package__}.{name}", (folder / f"{name}.py").read_bytes()) for name in _MODULES[verb]))
