"""A program in the place of the Pulumi CLI: it keeps stacks in a folder as ``stack ...`` shows them, and plays recorded events.

What is asked of it is written down; what it answers beside its stacks stands in ``script.json``. The real CLI is
judged by the tests that are marked so, where there is one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = """#!{python} -IS
import json, pathlib, sys
home, words = pathlib.Path({home!r}), sys.argv[1:]
with (home / "asked.jsonl").open("a") as asked:
    asked.write(json.dumps(words) + "\\n")
script, stacks = json.loads((home / "script.json").read_text()), home / "stacks"
name = words[words.index("--stack") + 1] if "--stack" in words else words[2] if len(words) > 2 else ""
state = stacks / (name + ".json")
def leave(code, text=""):
    sys.stderr.write(text)
    sys.exit(code)
if words[0] == "version":
    print(script.get("version", "v3.260.0"))
elif words[:2] == ["stack", "ls"]:
    if script.get("silent"):
        leave(1, "error: the backend does not answer")
    print(json.dumps([dict(name="organization/trainyard/" + path.stem) for path in stacks.iterdir()]))
elif words[0] == "stack" and script.get("silent"):
    leave(1, "error: the backend does not answer")
elif words[:2] == ["stack", "init"]:
    state.write_text("null")
elif words[:2] == ["stack", "import"]:
    state.write_text(sys.stdin.read())
elif words[0] == "stack" and not state.exists():
    leave(255, "error: no stack named '" + name + "' found")
elif words[:2] == ["stack", "export"]:
    print(state.read_text())
elif words[:2] == ["stack", "rm"]:
    if json.loads(state.read_text())["deployment"].get("resources"):
        leave(1, "error: stack still has resources; removal rejected")
    state.unlink()
else:
    with open(words[words.index("--event-log") + 1], "w") as log:
        for piece in script.get("events", []):
            log.write(piece)
            log.flush()
    leave(script.get("exit", 0), script.get("stderr", ""))
"""


@dataclass(frozen=True, slots=True)
class StandIn:
    """One stand-in; ``bin`` belongs on PATH."""

    home: Path

    @property
    def bin(self) -> Path:
        """The folder of its programs."""
        return self.home / "bin"

    def say(self, **script: object) -> None:
        """Set what it answers from now on: ``version``, ``silent``, ``events`` (texts), ``exit``, ``stderr``."""
        (self.home / "script.json").write_text(json.dumps(script))

    def play(self, *events: Mapping[str, object], exit: int = 0, stderr: str = "") -> None:
        """Let its next operations write these events, one a line."""
        self.say(events=[json.dumps(event) + "\n" for event in events], exit=exit, stderr=stderr)

    def asked(self) -> list[list[str]]:
        """Return the words of each call, the question for its version apart."""
        path = self.home / "asked.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [words for words in map(json.loads, lines) if words != ["version"]]


def stand_in(home: Path) -> StandIn:
    """Make a stand-in in a folder of its own."""
    made = StandIn(home)
    for folder in (made.bin, home / "stacks"):
        folder.mkdir(parents=True)
    for name, text in (("pulumi", _PROGRAM.format(python=sys.executable, home=str(home))), ("pulumi-language-python", "#!/bin/sh\n")):
        (made.bin / name).write_text(text)
        (made.bin / name).chmod(0o755)
    made.say()
    return made
