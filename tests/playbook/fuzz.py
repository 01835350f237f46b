"""Mutated playbooks, read and checked: whatever they hold, what is wrong with them ends in a sentence (``invoke playbook.fuzz``)."""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainyard import playbook
from trainyard.errors import TrainyardError
from trainyard.playbook.checks import check_everything

ROOT = Path(__file__).resolve().parents[2]
_ODD = (
    "", "~", "null", "yes", "0", "-1", "1e400", ".nan", "0644", "12:30", "2024-01-01", "'", '"', "[]", "{}", "[[[]]]", "- x",
    "{a: {b: [c]}}", "{{", "}}", "{{ x }}", "'{{ x }}'", "'{{ ''.__class__ }}'", "'{% for a in b %}'", "'{# '", "'{{ (' ",
    "!!binary x", "!vault x", "!unsafe '{{'", "&a [*a]", "*a", "|", ">-", "? x", "<<: {a: b}", "\t", "\x07", "\u2028", "\ud83d",
    "\U0001f40d", "é", "x" * 5000, "9" * 500, "#", ": ", "%", "localhost", "../../../../etc/passwd", "/dev/zero", "/dev/stdin", "a=b",
    "chdir=/ creates=", "src=a dest='", "[a, {b: c}]", "true", "---",
)  # fmt: skip
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9.]*")


def texts() -> list[str]:
    """Return the playbooks that are mutated: those of the project and the cases."""
    files = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "tests/cases").glob("*/*.yml")]
    return [path.read_text(encoding="utf-8") for path in sorted(files)]


def mutated(text: str, others: Sequence[str], words: Sequence[str], draw: random.Random) -> str:
    """Return a text with a few changes of the kinds that hands and editors make, and some that only malice does."""
    for _ in range(draw.randint(1, 4)):
        lines = text.split("\n")
        at = draw.randrange(len(lines))
        match draw.randrange(9):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[draw.randrange(len(lines))])
            case 2:
                lines[at] = " " * draw.randint(0, 8) + lines[at].lstrip(" ")
            case 3:
                key, colon, _ = lines[at].partition(":")
                lines[at] = f"{key}{colon} {draw.choice(_ODD)}"
            case 4:
                lines[at] = _WORD.sub(lambda match: draw.choice(words) if draw.random() < 0.3 else match[0], lines[at])
            case 5:
                other = draw.choice(others).split("\n")
                begin = draw.randrange(len(other))
                lines[at:at] = other[begin : begin + draw.randint(1, 12)]
            case 6:
                column = draw.randint(0, len(lines[at]))
                lines[at] = lines[at][:column] + draw.choice(_ODD) + lines[at][column:]
            case 7:
                lines[at] = lines[at][: draw.randint(0, len(lines[at]))]
            case 8:
                lines.insert(at, " " * draw.randint(0, 10) + f"{draw.choice(words)}: {draw.choice(_ODD)}")
        text = "\n".join(lines) or " "
    return text


def faults(cases: int, seed: int) -> Iterator[str]:
    """Yield what is wrong with the reader: an exception that is no sentence, or a playbook that takes long."""
    sources = texts()
    words = sorted({word for text in sources for word in _WORD.findall(text)})
    with tempfile.TemporaryDirectory() as folder:
        for beside in ("example", "tasks", "roles"):
            shutil.copytree(ROOT / "playbooks" / beside, Path(folder) / beside)
        path = Path(folder) / "play.yml"
        for number in range(cases):
            draw = random.Random(f"{seed}/{number}")
            path.write_bytes(mutated(draw.choice(sources), sources, words, draw).encode("utf-8", "surrogatepass"))
            begun = time.process_time()
            try:
                check_everything(playbook.load(path), [], {})
            except TrainyardError as error:
                str(error)
            except Exception:
                yield f"case {number} of seed {seed}:\n{traceback.format_exc()}"
            if time.process_time() - begun > 10:
                yield f"case {number} of seed {seed}: took {time.process_time() - begun:.0f} s"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="invoke playbook.fuzz")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    count = 0
    for fault in faults(options.cases, seed):
        print(fault, flush=True)
        count += 1
    print(f"{options.cases} playbooks of seed {seed}: {count} faults")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
