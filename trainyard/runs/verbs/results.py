"""What a stack's bucket holds: a table of attempts, one result in full, one result held against its manifest.

Works on any machine from the bucket alone: no record of this checkout is needed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainyard.clock import format_time
from trainyard.config import attempt_number, slug
from trainyard.errors import StoreError, UserError
from trainyard.nearest import suggest
from trainyard.pod.files import printable
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone
from trainyard.runs.records.summary import place_of
from trainyard.runs.verbs.fetch import bucket_of, meant, next_steps
from trainyard.settings import reader
from trainyard.settings.user import user_name
from trainyard.sizes import human_size
from trainyard.storage import bucket as buckets
from trainyard.storage.client import StoreSettings, sync_command
from trainyard.storage.deliver import Progress
from trainyard.storage.find import below_bucket
from trainyard.storage.inventory import ROOTS, StoredAttempt, attempts_in, look_for_foreign, run_names
from trainyard.storage.manifest import CHECKPOINTS, MODEL_FOLDER, LeftOut, Manifest, ResultKey
from trainyard.storage.seal import read, token_of
from trainyard.storage.verify import ResultCheck, SealState, seal_state, verify

_HEAD = ("result", "claimed", "is", "size", "recipe")
_WIDTH = 80
_SHOWN = 20
_LATER = 3
"""Of how many attempts after the one that is shown a person is told."""
_DIGITS = 16
"""Of a sha256 on a line of 80 columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One attempt, as ``invoke results --json`` tells it. Sizes are bytes, moments are UTC text."""

    result: str
    kind: str
    when: str
    files: int
    bytes: int
    checkpoint_bytes: int
    log_bytes: int
    checkpoints: Sequence[str]
    recipe: str
    user: str
    machine: str
    token: str


def row_of(one: StoredAttempt) -> ResultRow:
    """Return an attempt as data."""
    claim = one.claim
    return ResultRow(
        result=str(one.key), kind=one.kind, when=format_time(one.when), files=one.files, bytes=one.bytes - one.own_bytes,
        checkpoint_bytes=one.checkpoint_bytes, log_bytes=one.log_bytes, checkpoints=sorted(one.checkpoints),
        recipe=claim.recipe if claim else "", user=claim.user if claim else one.key.user, machine=claim.machine if claim else "",
        token=claim.token if claim else "",
    )  # fmt: skip


def list_rows(context: CommandContext, stack: str, user: str | None) -> tuple[StoreSettings, list[ResultRow]]:
    """Return a stack's bucket and its attempts, oldest first; of one user where one is named."""
    store = bucket_of(context, stack)
    attempts = attempts_in(store, f"{slug(user)}/" if user else "")
    look_for_foreign(store, attempts)
    return store, [row_of(one) for one in attempts]


def table(store: StoreSettings, rows: Sequence[ResultRow], user: str | None = None) -> list[str]:
    """Return the attempts for a person: one line each on 80 columns, two where a name is long."""
    gone = sum(r.kind == "deleted" for r in rows)
    deleted = f"; {gone} deleted, their numbers stay taken" if gone else ""
    rows = [r for r in rows if r.kind != "deleted"]
    if not rows:
        return [f"{store.url} holds no run{f' of {slug(user)}' if user else ''}{deleted}"]
    cells = [(r.result, r.when[:16].replace("T", " "), r.kind, human_size(r.bytes) if r.bytes else "", r.recipe) for r in rows]
    rest = [max(len(line[column]) for line in (_HEAD, *cells)) for column in range(1, len(_HEAD))]
    first = max(len(_HEAD[0]), min(max(len(line[0]) for line in cells), _WIDTH - sum(rest) - 2 * len(rest)))
    lines = []
    for line in (_HEAD, *cells):
        tail = "  ".join(cell.ljust(width) for cell, width in zip(line[1:], rest, strict=True))
        if len(line[0]) > first:
            lines += [line[0], f"{'':{first}}  {tail}".rstrip()]
        else:
            lines.append(f"{line[0]:{first}}  {tail}".rstrip())
    more = [(sum(r.checkpoint_bytes for r in rows), "checkpoints"), (sum(r.log_bytes for r in rows), "logs")]
    sums = [f"{human_size(sum(r.bytes for r in rows))} of results", *(f"{human_size(size)} of {what}" for size, what in more if size)]
    lines += [f"{len(rows)} attempt{'s' * (len(rows) != 1)} in {store.url}{deleted}", ", ".join(sums)]
    alone_ones = sum(r.kind == "pod-committed" for r in rows)
    return [*lines, f"{alone_ones} committed by the pod alone, to be sealed: invoke recover"] if alone_ones else lines


def stored_attempts(context: CommandContext, store: StoreSettings, stack: str, reference: str) -> list[StoredAttempt]:
    """Return the attempts that a label, ``user/label``, ``user/label/attempt``, key or ``s3://`` URL means, oldest first.

    Raises UserError when none is meant, and when a label belongs to several users and to none of ours.
    """
    user, run, number = _words(below_bucket(store, reference), reference)
    attempts = [one for one in attempts_in(store, f"{user}/{run}/" if user else "") if one.key.run == run]
    if number is not None:
        attempts = [one for one in attempts if one.key.attempt == number]
    if not attempts:
        raise _unknown(store, stack, reference)
    owners = sorted({one.key.user for one in attempts})
    if len(owners) > 1:
        mine = user_name(context.env, reader.partly(context.places.root, stack, "user").user)
        if mine not in owners:
            names = ", ".join(f"{owner}/{run}" for owner in owners)
            raise UserError(f"'{reference}' is the name of several users' runs", hint=f"Say which: {names}.")
        attempts = [one for one in attempts if one.key.user == mine]
    return attempts


def chosen_result(context: CommandContext, store: StoreSettings, stack: str, reference: str) -> StoredAttempt:
    """Return the attempt that a reference means, having sealed what pods have committed alone: that is a result, too."""
    attempts = stored_attempts(context, store, stack, reference)
    if alone_ones := [one.key for one in attempts if one.kind == "pod-committed"]:
        alone.seal_all(context, store, alone_ones)
        attempts = stored_attempts(context, store, stack, reference)
    look_for_foreign(store, attempts)
    return chosen(attempts)


def chosen(attempts: Sequence[StoredAttempt]) -> StoredAttempt:
    """Return the attempt that a name means: the newest success, else the newest that was kept, else the newest."""
    for kind in ("success", "kept"):
        if those := [one for one in attempts if one.kind == kind]:
            return max(those, key=lambda one: one.key.attempt)
    return max(attempts, key=lambda one: one.key.attempt)


def _words(text: str, reference: str) -> tuple[str | None, str, int | None]:
    text = text.strip("/")
    for root in ROOTS:
        text = text.removeprefix(root)
    parts = text.split("/")
    if not all(parts) or text + "/" in ROOTS:
        raise UserError(f"'{reference}' names no run", hint="It is a label, <user>/<run>, <user>/<run>/<attempt> or an s3:// URL of one.")
    if len(parts) == 1:
        return None, parts[0], None
    number = attempt_number(parts[2]) if len(parts) > 2 else None
    if len(parts) > 2 and number is None:
        raise UserError(f"'{reference}': '{parts[2]}' is no attempt", hint=f"They are counted from 1: {parts[0]}/{parts[1]}/1")
    return slug(parts[0]), parts[1], number


def _unknown(store: StoreSettings, stack: str, reference: str) -> UserError:
    return UserError(
        f"{store.url} knows no run '{reference}'{suggest(reference, run_names(store))}", hint=f"All of them: invoke results --stack {stack}"
    )


def show(context: CommandContext, stack: str, reference: str, *, as_json: bool) -> dict[str, Any] | None:
    """Print one result: files, what was left out, logs, whose it is, how it is fetched; for JSON return it as data instead."""
    store = bucket_of(context, stack)
    attempts = stored_attempts(context, store, stack, meant(context, reference, stack))
    look_for_foreign(store, attempts)
    one = chosen(attempts)
    later = [other for other in attempts if other.key.attempt > one.key.attempt and other.kind != "deleted"]
    seal = seal_state(store, one.key)
    logs = [(item.key[len(one.key.logs) :], item.size) for item in buckets.listing(store, one.key.logs)]
    commands = _commands(store, stack, one, seal)
    if as_json:
        manifest = seal.manifest
        return {
            **asdict(row_of(one)), "problem": seal.problem, "manifest_sha256": seal.manifest_sha256,
            "ending": asdict(seal.ending) if seal.ending else None,
            "entries": [{"path": e.path, "size": e.size, "sha256": e.sha256} for e in manifest.files] if manifest else [],
            "left_out": [asdict(entry) for entry in manifest.left_out] if manifest else [],
            "logs": [{"name": name, "size": size} for name, size in logs], "commands": commands,
            "later": [{"result": str(other.key), "kind": other.kind} for other in later],
        }  # fmt: skip
    wrong = next_steps(store, stack, one.key) if one.marks and seal.problem and one.kind != "pod-committed" else []
    files = _contents(seal.manifest) if seal.manifest else _unproved(store, one)
    newer = [f"later      {other.key} is {other.kind}" for other in later[-_LATER:]]
    context.ui.say("\n".join([*_about(store, one, seal), *newer, *files, *_log_lines(store, one.key, logs), *wrong, *commands]))
    return None


def _about(store: StoreSettings, one: StoredAttempt, seal: SealState) -> list[str]:
    claim = one.claim
    lines = [f"{store.url}/{one.key.prefix}", f"is         {one.kind}{f' ({seal.ending})' if seal.ending else ''}"]
    if claim:
        lines.append(f"whose      {claim}")
        more = [f"recipe {claim.recipe}"] * bool(claim.recipe) + [f"token {claim.token[:8]}"] * bool(claim.token)
        lines += [f"           {', '.join(more)}"] if more else []
    if claim and claim.gone:
        lines.append(f"gone       {claim.gone}; its number is not used again")
    if one.kind == "pod-committed":
        lines.append("committed  by its pod alone; the first machine that fetches or verifies it seals it")
    elif one.marks and seal.problem:
        lines.append(f"PROBLEM    {seal.problem}")
        lines += _beside_another(store, one)
    if seal.manifest_sha256:
        lines.append(f"manifest   sha256 {seal.manifest_sha256[:_DIGITS]}")
    names = ", ".join(map(printable, sorted(one.checkpoints)))
    if one.checkpoint_bytes:
        lines.append(f"checkpoints {names or 'none complete'} ({human_size(one.checkpoint_bytes)}, {store.url}/{CHECKPOINTS}{one.key}/)")
    return lines


def _beside_another(store: StoreSettings, one: StoredAttempt) -> list[str]:
    """Say where the run's own result is, if its pod has committed it alone and another run's marker keeps it from being sealed."""
    if one.kind != "foreign" or one.claim is None or token_of(read(store, one.key.pod_committed) or b"") != one.claim.token:
        return []
    copy = sync_command(store, one.key.prefix, "DIR")
    return [f"its own    {store.url}/{one.key.pod_tar}: what its pod has committed alone, a plain tar; copy it with", copy]


def _unproved(store: StoreSettings, one: StoredAttempt) -> list[str]:
    """Return what lies there of an attempt that no manifest tells about."""
    if not one.files:
        return []
    items = [(item.key[len(one.key.prefix) :], item.size) for item in buckets.listing(store, one.key.prefix)]
    lines = [f"  {human_size(size)}  {printable(path)}" for path, size in items if not path.startswith("_")]
    more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [f"there      {one.files} files, {one.bytes - one.own_bytes:,} bytes; no manifest proves them", *lines[:_SHOWN], *more]


def _contents(manifest: Manifest) -> list[str]:
    files, left = manifest.files, manifest.left_out
    lines = [f"files      {len(files)}, {manifest.size:,} bytes; sha256 (--json: all its digits), size, path"]
    lines += [f"  {entry.sha256[:_DIGITS]}  {human_size(entry.size)}  {printable(entry.path)}" for entry in files]
    lines += [f"left out   {len(left)}"] if left else []
    together: dict[tuple[str, str], list[LeftOut]] = {}
    # A training may leave hundreds of checkpoints: the screen is not theirs. What should have been carried is named first, one by one.
    for entry in sorted(left, key=lambda entry: not entry.wanted):
        folder = "" if entry.wanted else entry.path.rpartition("/")[0]
        together.setdefault((folder or entry.path, entry.why), []).append(entry)
    places = [_left_line(place, why, entries) for (place, why), entries in together.items()]
    most = _SHOWN + sum(entry.wanted for entry in left)
    more = [f"  and {len(places) - most} more places (--json names them)"] if len(places) > most else []
    return [*lines, *places[:most], *more]


def _left_line(place: str, why: str, entries: Sequence[LeftOut]) -> str:
    what = entries[0].path if len(entries) == 1 else f"{place}/ ({len(entries)} files)"
    return f"  {human_size(sum(entry.size for entry in entries))}  {printable(f'{what}: {why}')}"


def _log_lines(store: StoreSettings, key: ResultKey, logs: Sequence[tuple[str, int]]) -> list[str]:
    names = ", ".join(f"{printable(name)} ({human_size(size)})" for name, size in logs)
    return [f"logs       {store.url}/{key.logs}: {names}"] if logs else []


def _commands(store: StoreSettings, stack: str, one: StoredAttempt, seal: SealState) -> list[str]:
    """Return the commands that fetch what there is of an attempt; none where nothing is, no download where no manifest proves it."""
    lone = one.kind == "pod-committed"
    if not one.files and not lone:
        return []
    at = [] if stack == "local" else ["--stack", stack]
    partial = [] if one.kind in ("success", "kept") or lone else ["--partial"]
    place = place_of(one.key.run, one.key.attempt)
    # What a download takes, too; of a pod's lone commit nothing, which is one tar until it is sealed.
    in_model = one.kind == "success" and seal.manifest and any(entry.path.startswith(MODEL_FOLDER) for entry in seal.manifest.files)
    plain = [] if lone else [sync_command(store, one.key.model if in_model else one.key.prefix, place)]
    proved = [shlex.join(["invoke", "download", str(one.key), place, *at, *partial])] if seal.manifest or lone else []
    return [*proved, *plain]


def check(context: CommandContext, stack: str, reference: str, *, deep: bool, as_json: bool) -> tuple[int, dict[str, Any] | None]:
    """Hold a result against its manifest; return the exit code (0: whole, 7: not) and, for JSON, what was seen."""
    store = bucket_of(context, stack)
    one = chosen_result(context, store, stack, meant(context, reference, stack))
    shown = 0.0

    def progress(state: Progress) -> None:
        nonlocal shown
        share = state.done / state.total if state.total else 1.0
        if deep and share - shown >= 0.1:
            shown = share
            context.ui.say(f"verify     {share:4.0%} of {state.total:,} bytes")

    seen = verify(store, one.key, deep=deep, on_progress=progress)
    code = 0 if seen.whole else StoreError.exit_code
    if as_json:
        states: dict[str, Any] = {state: seen.those(state) for state in ("missing", "changed", "unproved")}
        return code, {"result": str(one.key), "whole": seen.whole, "problem": seen.seal.problem, "deep": deep, "files": len(seen.files),
                      "manifest_sha256": seen.seal.manifest_sha256, "extra": list(seen.extra), **states}  # fmt: skip
    for line in _check_lines(store, one.key, seen):
        (context.ui.say if seen.whole else context.ui.fail)(line)
    return code, None


def _check_lines(store: StoreSettings, key: ResultKey, seen: ResultCheck) -> Iterable[str]:
    how = "every byte read, sha256 of each file" if seen.deep else "size and checksum of each object, as the store tells them"
    if seen.seal.problem:
        yield f"{key}: {seen.seal.problem}"
    words = {"missing": seen.those("missing"), "CHANGED": seen.those("changed"), "not in the manifest": list(seen.extra)}
    unproved = seen.those("unproved")
    for word, paths in words.items():
        yield from (f"{word}: {printable(path)}" for path in paths[:_SHOWN])
        if len(paths) > _SHOWN:
            yield f"{word}: {len(paths) - _SHOWN} more (--json names them)"
    if unproved:
        yield f"of {len(unproved)} files the store tells no checksum, their sizes are right: --deep reads them"
    if seen.whole:
        size = seen.seal.manifest.size if seen.seal.manifest else 0
        yield f"{key}: whole: {len(seen.files)} files, {size:,} bytes ({how}) against manifest {str(seen.seal.manifest_sha256)[:12]}"
    else:
        if seen.seal.manifest is None:
            yield f"{key}: NOT whole: nothing can be proved without its manifest"
            return
        bad = len(words["missing"]) + len(words["CHANGED"])
        files = f"{bad} of {len(seen.files)} files are not" if bad else f"its marker is not; all {len(seen.files)} files are"
        yield f"{key}: NOT whole: {files} as the manifest says ({how})"
