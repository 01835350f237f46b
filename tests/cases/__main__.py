"""Write what comes of cases, and hold it against ansible-core: ``invoke playbook.cases``."""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.cases import golden, ours
from tests.cases.golden import Course, GoldenCase, Place


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="invoke playbook.cases", description="Run cases of playbooks and compare what comes of them.")
    parser.add_argument("names", nargs="*", help="which cases (default: all)")
    parser.add_argument("--write", action="store_true", help="write what comes of them as what is expected")
    options = parser.parse_args(argv)
    code = 0
    for case in _chosen(options.names):
        text = played(case, ours.run)
        if options.write:
            case.expected.write_text(text, encoding="utf-8")
        elif text != (expected := case.expected.read_text(encoding="utf-8") if case.expected.exists() else ""):
            code = 1
            print("\n".join(difflib.unified_diff(expected.splitlines(), text.splitlines(), str(case.expected), "now", lineterm="")))
    return code


def played(case: GoldenCase, run: Callable[[Place], Course]) -> str:
    """Run a case twice in a folder of its own; return what is to be compared."""
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        place = Path(folder) / "case"
        place.mkdir()
        return golden.both_runs(case.lay_out(place), run)


def _chosen(names: Sequence[str]) -> Iterator[GoldenCase]:
    known = {case.name: case for case in golden.cases()}
    for name in names or known:
        if name not in known:
            sys.exit(f"there is no case {name} in {golden.FOLDER}")
        yield known[name]


if __name__ == "__main__":
    sys.exit(main())
