"""The judge of a case: the emulator's own ledger and machines, the files left behind, the words on command lines."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path

from tests.faults.world import CloudYard, World
from trainyard.clouds.marker import parse_name
from trainyard.config import PROJECT
from trainyard.engine.backend import Backend
from trainyard.errors import TrainyardError
from trainyard.stacks import facade

GRACE = 25.0
"""Seconds after the end of a lease in which the watchdog of a busy machine must have ended its pod."""


def left(world: World, spared: Iterable[str] = ()) -> list[str]:
    """Return what is wrong when nothing may be left: pods on the list, machines without a pod."""
    spare = set(spared)
    found = [f"pod left: {r['id']} {r['name']} ({r['status']})" for r in world.pods() if r["id"] not in spare]
    listed = {r["id"] for r in world.pods()}
    return found + [f"machine left without a pod: {pod}" for pod in world.machines() if pod not in listed]


def bills(world: World, since: float, *, kept_by_reaper: bool = False) -> list[str]:
    """Return what is wrong with the ledger: two pods of a lease paid at once, one that is not ours, one beyond its end."""
    paid, infos = world.paid(since), world.infos()
    if any(p.pod not in infos for p in paid):
        time.sleep(0.5)  # a pod that is just being forgotten is on neither list for a moment
        infos |= world.infos()
    ends = {pod: info.end.timestamp() for pod, info in infos.items() if info.end is not None}
    names = {pod: parse_name(info.name) for pod, info in infos.items()}
    found = [f"unknown pod paid: {p.pod} '{p.name}'" for p in paid if names.get(p.pod) is None or p.pod not in ends]
    for one, two in itertools.combinations(paid, 2):
        a, b = names.get(one.pod), names.get(two.pod)
        same = a and b and (a.lease_id, a.logical_name) == (b.lease_id, b.logical_name)
        if same and one.pod != two.pod and two.start < (one.end if one.end is not None else float("inf")):
            found.append(f"paid twice at once: {one.pod} and {two.pod} of {one.name}")
    if not kept_by_reaper:
        over = [p for p in paid if p.end is not None and p.pod in ends and p.end > ends[p.pod] + GRACE]
        found += [f"outlived its lease by {p.end - ends[p.pod]:.0f} s: {p.pod}" for p in over if p.end is not None]
    return found


def state(yard: CloudYard) -> list[str]:
    """Return what is wrong with the state files: each must be readable whole."""
    folder = yard.places.state
    if not folder.is_dir():
        return []
    try:
        store = Backend(folder)
        for name in store.stacks(PROJECT):
            store.load(PROJECT, name)
    except (TrainyardError, ValueError, KeyError, OSError) as error:
        return [f"the state cannot be read: {error!r}"]
    return []


def secrets_of(yard: CloudYard) -> dict[str, str]:
    """Return what must never be seen in clear: name -> text. Call it while the environment's state is there."""
    found = {"API key": yard.world.emulator.key}
    passphrase = yard.places.settings / "passphrase"
    if passphrase.is_file():
        found["passphrase"] = passphrase.read_text().strip()
    for path in yard.places.ssh.rglob("id_*"):
        if path.suffix != ".pub":
            found["private key"] = _inner(path.read_text())
    try:
        seed = facade.outputs(yard_stack(yard)).get("host_key_seed")
    except TrainyardError:
        seed = None
    if isinstance(seed, str):
        found["host key seed"] = seed
    return found


def yard_stack(yard: CloudYard):  # type: ignore[no-untyped-def]
    """Return the environment's stack of a checkout."""
    return facade.environment_stack(yard.stack, yard.places, yard.env)


def clear_text(yard: CloudYard, secrets: dict[str, str], argvs: Iterable[tuple[str, ...]], printed: Iterable[str]) -> list[str]:
    """Return where a secret stands in clear: state, logs, records, results at home and in the bucket, command lines, what was printed."""
    found = []
    places = (yard.home, yard.root / "out", yard.places.store / "data")
    # Not by rglob: it ends where a folder goes while it looks, as locks and tidied runs do.
    for path in (Path(folder, name) for place in places for folder, _, names in os.walk(place) for name in names):
        if path.is_file() and not path.is_relative_to(yard.places.ssh):
            text = _text(path)
            found += [f"{name} in clear in {path}" for name, secret in secrets.items() if secret in text]
    for argv in argvs:
        found += [f"{name} in the command line of {argv[:4]}" for name, secret in secrets.items() if secret in " ".join(argv)]
    for text in printed:
        found += [f"{name} was printed" for name, secret in secrets.items() if secret in text]
    return found


def _inner(pem: str) -> str:
    """Return a line of a key's secret half: the armour itself is no secret."""
    lines = [line for line in pem.splitlines() if line and "-----" not in line]
    return lines[len(lines) // 2]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
