"""Show what a stack's bucket can do with the key at hand: each action with its verdict, and what it means."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from trainyard.errors import StoreError
from trainyard.phrasing import as_typed
from trainyard.runs.context import CommandContext
from trainyard.runs.verbs.fetch import bucket_of
from trainyard.storage import canary
from trainyard.storage.trial import Check


def check(context: CommandContext, stack: str) -> tuple[canary.StoreReport, StoreError | None]:
    """Try a stack's bucket anew and return the report, with the error that a run would be refused with.

    Raises UserError where the stack has no bucket, StoreError where the store takes neither key nor clock, or is silent.
    """
    settings = bucket_of(context, stack)
    report = canary.check(settings, fresh=True)
    return report, canary.refusal_of(settings, report, stack) if report.failures else None


def show(context: CommandContext, report: canary.StoreReport) -> None:
    """Print the report as a table of 80 columns."""
    context.ui.say(f"{report.url} ({report.kind}{', ' + report.endpoint if report.endpoint else ''})")
    table = Table(box=None, padding=(0, 2, 0, 0), width=80)
    table.add_column("what", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("what it means")
    for one in report.checks:
        table.add_row(one.name, one.verdict, Text(as_typed(_meaning(one))))  # what a store says may hold brackets
    context.ui.console.print(table)
    sums = {"full": "CRC32 of the whole object", "composite": "CRC32 of the parts' CRC32s", "none": "MD5 by ETag"}[report.checksums]
    context.ui.say(f"proof by {sums}; {report.seconds:.1f} s")
    if report.removed:
        context.ui.say(f"{report.removed} objects of an earlier canary, which was cut off, were removed")


def as_data(report: canary.StoreReport) -> dict[str, Any]:
    """Return the report for scripts."""
    return {**asdict(report), "ok": not report.failures}


def _meaning(check: Check) -> str:
    if check.verdict == "ok":
        return canary.use(check)
    why = check.says if check.verdict != "refused" else f"needs the right {check.right}"
    return f"{why or 'not tried, because of what stands above'}; " + ("nothing is rented" if check.needed else canary.loss(check))
