"""What ansible-core made of the cases, as it was recorded, and the differences that are meant: the only excuse for another answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cases.golden import GoldenCase, cases

RECORD = Path(__file__).with_name("ansible.json")
DIFFERENCES = Path(__file__).with_name("differences.yml")


@dataclass(frozen=True, slots=True)
class MeantDifference:
    """One that is meant: a row of the table in docs/playbooks.md."""

    name: str
    ansible: str
    ours: str
    why: str
    cases: tuple[str, ...]


def differences() -> tuple[MeantDifference, ...]:
    """Return the table of what is meant to differ."""
    rows = yaml.safe_load(DIFFERENCES.read_text(encoding="utf-8"))
    return tuple(MeantDifference(**{**row, "cases": tuple(row["cases"])}) for row in rows)


def recorded() -> dict[str, dict[str, str]]:
    """Return case -> key of what was run, and the sha256 of the answer."""
    return dict(json.loads(RECORD.read_text(encoding="utf-8"))) if RECORD.exists() else {}


def stale(chosen: Iterable[GoldenCase]) -> list[GoldenCase]:
    """Return the cases that ansible-core was not asked for, as they are now."""
    known = recorded()
    return [case for case in chosen if known.get(case.name, {}).get("key") != case.key()]


def record(chosen: Iterable[GoldenCase], answer: Callable[[GoldenCase], str]) -> None:
    """Ask ansible-core and keep what it did: the answer itself where it is another one than ours."""
    known = {name: entry for name, entry in recorded().items() if name in {case.name for case in cases()}}
    with ThreadPoolExecutor(2) as pool:
        for case, text in pool.map(lambda case: (case, answer(case)), chosen):
            known[case.name] = {"key": case.key(), "answer": digest(text)}
            if case.expected.read_text(encoding="utf-8") == text:
                case.peer.unlink(missing_ok=True)
            else:
                case.peer.write_text(text, encoding="utf-8")
            rows = (f"{json.dumps(name)}: {json.dumps(known[name])}" for name in sorted(known))
            RECORD.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def wrong(case: GoldenCase, known: Mapping[str, Mapping[str, str]], meant: Iterable[MeantDifference]) -> str | None:
    """Return what is wrong with a case that was held against ansible-core, None where nothing is."""
    differs = known[case.name]["answer"] != digest(case.expected.read_text(encoding="utf-8"))
    excuse = next((each.name for each in meant if case.name in each.cases), None)
    if differs and excuse is None:
        return f"{case.name}: ansible-core does something else, and no difference of {DIFFERENCES.name} says so"
    if not differs and excuse is not None:
        return f"{case.name}: ansible-core does the same, though '{excuse}' of {DIFFERENCES.name} says that it does not"
    return None


def digest(text: str) -> str:
    """Return the sha256 of an answer."""
    return hashlib.sha256(text.encode()).hexdigest()
