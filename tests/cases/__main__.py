"""Write what comes of cases, and hold it against ansible-core: ``invoke playbook.cases``."""

from __future__ import annotations

import argparse
import difflib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.cases import compared, golden, ours, peer, reached
from tests.cases.golden import Course, GoldenCase, Place


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="invoke playbook.cases", description="Run cases of playbooks and compare what comes of them.")
    parser.add_argument("names", nargs="*", help="which cases (default: all)")
    parser.add_argument("--write", action="store_true", help="write what comes of them as what is expected")
    parser.add_argument("--ansible", action="store_true", help="hold them against ansible-core; those that changed are asked for again")
    parser.add_argument("--again", action="store_true", help="with --ansible: ask for all of them again")
    parser.add_argument("--ssh", action="store_true", help="reach the hosts by a real SSH server; with --ansible, let it do that too")
    options = parser.parse_args(argv)
    chosen = list(_chosen(options.names))
    code = _ours(chosen, write=options.write, ssh=options.ssh)
    if not options.ansible:
        return code
    return (_ansible_by_ssh(chosen) if options.ssh else _against_ansible(chosen, again=options.again)) or code


def _ours(chosen: list[GoldenCase], *, write: bool, ssh: bool) -> int:
    code = 0
    for case in chosen:
        text = played(case, reached.ours_by_ssh if ssh else ours.run)
        if write:
            case.expected.write_text(text, encoding="utf-8")
        elif text != (expected := case.expected.read_text(encoding="utf-8") if case.expected.exists() else ""):
            code = 1
            _show(expected, text, str(case.expected), "now")
    return code


def _show(old: str, new: str, before: str, after: str) -> None:
    print("\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), before, after, lineterm="")))


def _against_ansible(chosen: list[GoldenCase], *, again: bool) -> int:
    if (asked := chosen if again else compared.stale(chosen)) and not peer.installed():
        sys.exit(f"{len(asked)} cases are to be asked for, and ansible-core is not installed: invoke extras")
    compared.record(asked, lambda case: played(case, peer.run))
    known, meant = compared.recorded(), compared.differences()
    found = [sentence for case in chosen if (sentence := compared.wrong(case, known, meant))]
    for sentence in found:
        print(sentence)
        case = next(case for case in chosen if case.name == sentence.partition(":")[0])
        if case.peer.exists():
            _show(case.peer.read_text(encoding="utf-8"), case.expected.read_text(encoding="utf-8"), "ansible-core", "ours")
    print(f"{len(chosen)} cases, {len(asked)} asked for now, {len(found)} to be explained")
    return 1 if found else 0


def _ansible_by_ssh(chosen: list[GoldenCase]) -> int:
    known = compared.recorded()
    wrong = [case.name for case in chosen if compared.digest(played(case, reached.ansible_by_ssh)) != known[case.name]["answer"]]
    print(f"{len(chosen)} cases, {len(wrong)} of which ansible-core answers otherwise over SSH", *wrong)
    return 1 if wrong else 0


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
