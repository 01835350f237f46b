"""`invoke cache`: the model caches of all accounts, who uses them, and their end. A run never deletes one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.clouds.protocol import Cloud
from trainyard.clouds.volumes import NetworkVolume, volumes_of
from trainyard.config import stack_names
from trainyard.errors import CloudError, RefusedError, StillThere, TrainyardError, UserError
from trainyard.leases.environmentid import known_environment_id
from trainyard.ledger.rows import LedgerEvent, RunFilter
from trainyard.runs.context import CommandContext
from trainyard.runs.life.modelcache import cache_maker
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.cacheplan import CACHE_USED, environment_of
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.progress import duration
from trainyard.runs.verbs.account import accounts
from trainyard.settings import reader


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRow:
    """One cache. Times are epoch seconds, as far as the ledger here tells them; money is in dollars."""

    cloud: str
    id: str
    name: str
    place: str
    size_gb: float | None
    per_month: float | None
    ours: bool
    """Of a stack of this repository; another is shown, and never touched."""
    created: float | None
    used: float | None
    run: str | None
    """Who used it last."""
    pods: tuple[str, ...]
    live: tuple[str, ...]
    """Runs that have not ended and use it."""


def survey(context: CommandContext, stack: str | None) -> tuple[int, list[CacheRow]]:
    """Return the caches of one stack, or of all accounts; and the exit code of a cloud that did not answer, which hides no other."""
    rows, code, ids = [], 0, _environments(context, stack)
    for cloud in accounts(context, stack):
        try:
            rows += _rows(context, cloud, ids, only_ours=stack is not None)
        except CloudError as error:
            context.ui.fail(f"{cloud.name}: which volumes there are is not known: {error}")
            code = code or error.exit_code
    return code, rows


def cache_lines(rows: Sequence[CacheRow]) -> list[str]:
    """Return the caches for a person."""
    lines = []
    for row in rows:
        price = "price unknown" if row.per_month is None else f"${row.per_month:,.2f}/month"
        size = "" if row.size_gb is None else f", {row.size_gb:g} GB"
        lines.append(f"{price:>13}  {row.cloud} {row.name}: {row.id} in {row.place}{size}{'' if row.ours else ', of another environment'}")
        age = "not made from here" if row.created is None else f"made {_ago(row.created)}"
        used = "no run of this ledger has used it" if row.used is None else f"last used {_ago(row.used)} by {row.run}"
        held = [f"mounted by {', '.join(pod or 'a pod' for pod in row.pods)}"] if row.pods else []
        held += [f"in use by {', '.join(row.live)}"] if row.live else []
        lines.append(f"{'':>13}  {'; '.join([age, used, *held])}")
    month = sum(row.per_month or 0.0 for row in rows)
    unknown = sum(row.per_month is None for row in rows)
    rest = f", and {unknown} whose price is not told" if unknown else ""
    return [*lines, f"in all ${month:,.2f} a month{rest}"] if rows else ["there are no model caches"]


def clean(context: CommandContext, stack: str | None, hours: float | None, *, yes: bool) -> int:
    """Delete the caches of ours that nothing uses (``hours``: nor has for so long); return the exit code.

    Raises RefusedError where nobody agrees, StillThere where one is not proved gone.
    """
    code, rows = survey(context, stack)
    rows = [row for row in rows if row.ours]
    going = [row for row in rows if not _kept(context, row, hours)]
    if not going:
        context.ui.say("no model cache is to be deleted")
        return code
    context.ui.say("\n".join(cache_lines(going)))
    if not yes and not context.ui.agreed(f"Delete {len(going)} model cache(s) with all that lies on them? [y/N] "):
        raise RefusedError("nothing was deleted", hint="Say --yes; what lies there is downloaded again by the next run.")
    left = [row for row in going if not _discard(context, row)]
    if left:
        said = "\n".join(f"{row.cloud} volume {row.id} ({row.name}) is not proved gone" for row in left)
        raise StillThere(said, hint=f"Again: invoke cache.clean{f' --stack {stack}' if stack else ''}")
    return code


def after_destroy(context: CommandContext, stack: str, *, remove: bool) -> int:
    """Delete a stack's caches once it is destroyed, or say which stay and what they cost; return the exit code."""
    if remove:
        return clean(context, stack, None, yes=True)
    with contextlib.suppress(TrainyardError):  # the destroy itself is done and proved
        if reader.partly(context.places.root, stack, "cache").cache == "auto":
            for row in survey(context, stack)[1]:
                price = "at a price that is not known" if row.per_month is None else f"at ${row.per_month:.2f} a month"
                context.ui.warn(f"model cache {row.name} stays {price}; delete it: invoke cache.clean --stack {stack}")
    return 0


def _rows(context: CommandContext, cloud: Cloud, ids: frozenset[str], *, only_ours: bool) -> list[CacheRow]:
    volumes = volumes_of(cloud)
    caches = [one for one in volumes.list() if environment_of(one.name)] if volumes is not None else []
    if not caches:
        return []
    ledger = context.ledger()
    uses = [event for event in ledger.events(kind=CACHE_USED) if event.data.get("cloud") == cloud.name]
    live = {row.id for row in ledger.runs(RunFilter(state="live"))}
    rows = [_row(cloud.name, volume, environment_of(volume.name) in ids, uses, live) for volume in caches]
    return [row for row in rows if row.ours or not only_ours]


def _row(cloud: str, volume: NetworkVolume, ours: bool, uses: Sequence[LedgerEvent], live: set[RunId]) -> CacheRow:
    of_it = [event for event in uses if event.data.get("volume") == volume.id]
    return CacheRow(
        cloud=cloud, id=volume.id, name=volume.name, place=volume.place, size_gb=volume.size_gb, per_month=volume.per_month, ours=ours,
        created=next((event.time for event in of_it if event.data.get("new")), None), used=of_it[-1].time if of_it else None,
        run=str(of_it[-1].run) if of_it else None, pods=volume.attached,
        live=tuple(dict.fromkeys(str(event.run) for event in of_it if event.run in live)),
    )  # fmt: skip


def _kept(context: CommandContext, row: CacheRow, hours: float | None) -> bool:
    """Tell whether a cache stays, having said why where a person might not know."""
    if row.pods or row.live:
        context.ui.say(f"{row.name} stays: " + ("a pod mounts it" if row.pods else f"{row.live[0]} uses it"))
        return True
    if hours is None:
        return False
    if row.used is None:
        context.ui.say(f"{row.name} stays: when it was last used is not known here (without --older-than it goes)")
        return True
    return time.time() - row.used < hours * 3600


def _discard(context: CommandContext, row: CacheRow) -> bool:
    from trainyard.clouds import open_cloud

    maker = cache_maker(context, open_cloud(row.cloud, context.env, context.places))
    assert maker is not None
    try:
        done = maker.discard(NetworkVolume(row.id, row.name, row.place, row.size_gb, row.per_month))
    except CloudError as error:
        context.ui.fail(f"{row.name}: {error}")
        return False
    record_act(context, "cache.clean", row.id, cloud=row.cloud, name=row.name, proved_gone=done == "gone")
    context.ui.say({"gone": f"{row.name} is gone", "mounted": f"{row.name} stays: a pod mounts it by now"}.get(done, f"{row.name}: {done}"))
    return done != "still there"


def _environments(context: CommandContext, stack: str | None) -> frozenset[str]:
    """Return the ids of the environments of one stack, or of this repository's stacks."""
    ids = set()
    for name in [stack] if stack else stack_names(context.places.root):
        try:
            ids.add(reader.partly(context.places.root, name, "env_id").env_id or known_environment_id(context.places, name))
        except UserError:
            continue  # its cloud is said by accounts()
    return frozenset(id for id in ids if id)


def _ago(moment: float) -> str:
    return f"{duration(max(0.0, time.time() - moment))} ago"
