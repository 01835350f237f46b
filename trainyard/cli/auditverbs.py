"""The verbs about the audit log. Parsing only."""

from __future__ import annotations

from dataclasses import asdict

from invoke.context import Context

from trainyard.cli.common import context, help_of, show_json, task, verb


@task(
    help=help_of(
        "json",
        since="only since then: 30m, 12h, 7d, 2w ago, or a date (2026-11-29, UTC)",
        user="only what this person did",
        action="only this: train, cancel, end, up, destroy, ...",
        run="only about this run (user/label), stack or pod",
        limit="how many at most, the newest (default: 100; 0 means all)",
    )
)
@verb
def audit_log(
    c: Context, since: str | None = None, user: str | None = None, action: str | None = None, run: str | None = None, limit: int = 100,
    json: bool = False,
) -> int:  # fmt: skip
    """Show who did what when: runs begun and ended, pods, stacks, approvals, deletions, limits."""
    from trainyard.jsontext import parse_json
    from trainyard.runs.verbs.auditing import log, row_lines

    work = context(as_json=json)
    rows = log(work, since, user, action, run, limit)
    if json:
        show_json([{**asdict(row), "data": parse_json(row.data)} for row in rows])
    else:
        work.ui.say("\n".join(line for row in rows for line in row_lines(row)) or "the audit log has no such row")
    return 0


@task(help=help_of("json", accept="a chain of an earlier, lost ledger that a bucket still knows: written down, and asked about no more"))
@verb
def audit_verify(c: Context, accept: str | None = None, json: bool = False) -> int:
    """Prove the audit log: no row changed, removed, moved or cut off; 1 where it breaks, 7 where a bucket does not answer."""
    from trainyard.runs.verbs.auditing import report_lines, verify

    work = context(as_json=json)
    report = verify(work, accept)
    if json:
        show_json(asdict(report))
    else:
        work.ui.say("\n".join(report_lines(report)))
    return report.exit_status
