"""The report of a speedrun: upstream's own where its commit makes one, else one of what was measured. Standard library only."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from keeping import MODEL
from steps import STEPS, Book, place

_ASIDE = ("seconds", "wrong", "exit_code")


def report(book: Book, *, seconds: float, unmodified: bool) -> dict[str, Any]:
    """Write model/report.md; return what result.json says."""
    known = book.known()
    commit = subprocess.run(["git", "-C", book.repo, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    result = {"recipe": "nanochat", "commit": commit, "unmodified": unmodified, "tag": book.plan["tag"], "gpus": book.plan["gpus"],
              "seconds_of_this_attempt": round(seconds, 1), "steps": (known.get("base") or {}).get("steps"), "phases": known}  # fmt: skip
    upstream = os.path.join(book.base, "report", "report.md")
    target = os.path.join(MODEL, "report.md")
    os.makedirs(MODEL, exist_ok=True)
    if os.path.exists(upstream):
        place(upstream, target)
    with open(target, "a" if os.path.exists(upstream) else "w", encoding="utf-8") as out:
        out.write(page(result))
    return result


def page(result: dict[str, Any]) -> str:
    """Return what was measured, step by step."""
    lines = [f"\n# nanochat {result['tag']}, as it was measured\n",
             f"Commit {result['commit']}{', as it is' if result['unmodified'] else ', ALTERED'}; {result['gpus'] or 'no'} GPUs.\n",
             "| step | took | measured |", "|---|---|---|"]  # fmt: skip
    for step in STEPS:
        known = result["phases"].get(step.name)
        if known is None:
            continue
        figures = ", ".join(f"{name} {value:g}" for name, value in known.items() if name not in _ASIDE and value is not None)
        told = f"{'FAILED' if step.counts else 'not taken'}: {known['wrong']}" if known.get("wrong") else figures or "done"
        lines.append(f"| {step.title} | {known['seconds'] / 60:.1f} min | {told} |")
    return "\n".join(lines) + "\n"
