"""Show the audit log, and prove it: row by row, and against the anchors that lie in the stacks' buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainyard.clock import format_time
from trainyard.errors import StoreError, UserError
from trainyard.ledger import auditlog
from trainyard.ledger.auditlog import AuditFilter, AuditHead, AuditProof, AuditRow
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import AuditAnchor, place_of, read_anchor, record_act
from trainyard.runs.verbs.anchors import anchor_in
from trainyard.runs.verbs.listing import moment_of
from trainyard.runs.verbs.sharing import stores
from trainyard.storage.auditanchors import chains, newest_anchors
from trainyard.storage.client import StoreSettings

_ACCEPTED = "accept chain"
BROKEN = 1
"""Exit code of a log that is not as it was written."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What ``invoke audit.verify`` has found."""

    proof: AuditProof
    buckets: tuple[str, ...]
    """Whose anchors were compared."""
    unanswered: tuple[str, ...]
    others: tuple[AuditHead, ...]
    """Other chains of this very ledger that a bucket knows, and that nobody has accepted as begun anew."""

    @property
    def exit_status(self) -> int:
        """0: proven. 1: broken. 7: proven as far as it goes, but a bucket did not say whether rows were cut off."""
        return BROKEN if self.proof.breach or self.others else StoreError.exit_code if self.unanswered else 0


def verify(context: CommandContext, accept: str | None = None) -> AuditReport:
    """Prove the audit log; where it holds, write how far it has come into each bucket.

    ``accept``: a chain that a bucket knows of this ledger and that was lost with an earlier one; written down as accepted.
    Raises UserError for one that no bucket knows so.
    """
    ledger = context.ledger()
    head = auditlog.head(ledger.database)
    anchors: list[AuditHead] = []
    others: dict[str, AuditHead] = {}
    asked, unanswered = [], []
    for store in stores(context, local=True):
        try:
            anchors += _anchors(store, head)
            others |= _others(store, head, place_of(ledger))
            asked.append(store)
        except StoreError as error:
            if error.code == "NoSuchBucket":
                continue  # no run has made it yet
            context.ui.warn(f"{store.url} does not tell its anchors, so rows cut off at the end would not be seen: {error.message}")
            unanswered.append(store.url)
    if accept:
        _refuse_unknown(accept, others, unanswered)
        record_act(context, _ACCEPTED, accept, must=True)
    accepted = {row.subject for row in auditlog.rows(ledger.database, AuditFilter(action=_ACCEPTED))}
    proof = auditlog.verify(ledger.database, anchors)
    if proof.breach is None:
        anchor_in(ledger, asked)
    left = tuple(other for chain, other in sorted(others.items()) if chain not in accepted)
    return AuditReport(proof, tuple(store.url for store in asked), tuple(unanswered), left)


def log(
    context: CommandContext, since: str | None = None, user: str | None = None, action: str | None = None, run: str | None = None,
    limit: int | None = None,
) -> list[AuditRow]:  # fmt: skip
    """Return rows of the audit log, oldest first; raises UserError for a time that is none, and what the ledger raises."""
    asked = AuditFilter(since=moment_of(since), actor=user, action=action, subject=run, limit=limit or None)
    return auditlog.rows(context.ledger().database, asked)


def report_lines(report: AuditReport) -> list[str]:
    """Return what a person reads of a proof."""
    proof = report.proof
    lines = [f"proven     {proof.rows:,} rows" + (f" of chain {proof.head.chain}, head {proof.head.hash[:16]}" if proof.head else "")]
    if report.buckets:
        lines.append(f"anchors    {proof.anchors} agree ({', '.join(report.buckets)})")
    elif not report.unanswered:
        lines.append("anchors    none: no bucket of a stack can be asked, so rows cut off at the end would not be seen")
    if proof.breach:
        lines.append(f"BROKEN     at row {proof.at}: {proof.breach}: {proof.why}")
    for other in report.others:
        lines.append(f"BROKEN     a bucket knows {other.sequence:,} rows of another chain of this ledger: {other.chain}")
        lines.append(f"           Was that ledger lost, and this one begun anew? invoke audit.verify --accept {other.chain}")
    return lines


def row_lines(row: AuditRow) -> list[str]:
    """Return what a person reads of a row."""
    data = "" if row.data == "{}" else f"\n    {row.data}"
    return f"{row.sequence:>6}  {format_time(row.time)}  {row.actor}@{row.machine}  {row.action} {row.subject}{data}".splitlines()


def _refuse_unknown(accept: str, others: Mapping[str, AuditHead], unanswered: Sequence[str]) -> None:
    if accept in others:
        return
    if others:
        hint = f"Those that are known: {', '.join(sorted(others))}."
    else:
        hint = f"Say it again when it is there: {', '.join(unanswered)}" if unanswered else "There is nothing to accept."
    raise UserError(f"--accept {accept}: no bucket knows another chain of this ledger by that name", hint=hint)


def _anchors(store: StoreSettings, head: AuditHead | None) -> list[AuditHead]:
    if head is None:
        return []
    return [AuditHead(one.chain, one.sequence, one.hash) for one in _read(store, head.chain)]


def _others(store: StoreSettings, head: AuditHead | None, place: str) -> dict[str, AuditHead]:
    """Return the newest anchor of each other chain that was of this ledger."""
    others = {}
    for chain in chains(store):
        if head is None or chain != head.chain:
            read = _read(store, chain)
            if read and read[-1].ledger == place:
                others[chain] = AuditHead(chain, read[-1].sequence, read[-1].hash)
    return others


def _read(store: StoreSettings, chain: str) -> list[AuditAnchor]:
    """Return a chain's anchors; one that is none, or of another number than its name, is an anchor that nothing agrees with."""
    anchors = []
    for sequence, body in newest_anchors(store, chain):
        try:
            one = read_anchor(body)
        except ValueError:
            one = None
        anchors.append(one if one and (one.chain, one.sequence) == (chain, sequence) else AuditAnchor(chain, sequence, "", 0.0, ""))
    return anchors
