"""``python -m tests.faults.lies [--stack CLOUD] [--only TEXT] [--seed S] [--cases N]``: a cloud that lies, and what may be said of it.

Each case lets one answer of an emulated cloud lie (or the end of a pod be refused beside it), for once, for some
seconds or for good, and asks something that can say "gone", "ended" or a price. The emulator's own ledger judges: what
still runs was never proved gone, what is not ours was never touched, a lie that ends keeps nobody for long. The clock
is a test's own, so that minutes of patience cost nothing.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.faults.liar import LENGTHS, STANDARD, TO_CREATE, Site, altered, calls, open_site, replies, site
from trainyard.clock import format_time
from trainyard.clouds.absence import KnownPod, Proof, prove
from trainyard.clouds.listing import complete_list
from trainyard.clouds.marker import new_id
from trainyard.config import Places
from trainyard.errors import CloudError, StillThere, TrainyardError, UserError
from trainyard.leases import intents
from trainyard.leases.world import Control, OperationWorld
from trainyard.provider import pod
from trainyard.provider.call import Call
from trainyard.provider.handler import Partial
from trainyard.provider.handler import check as checked
from trainyard.provider.pod import POD
from trainyard.rehearsal.emulators import emulator_of, emulators
from trainyard.rehearsal.kit import EmulatedCloud
from trainyard.runs.verbs.adopt import find_pod
from trainyard.runs.verbs.reap import reap

PATIENCE = 900.0
"""Seconds in which each question must be answered, whatever is said to it."""
AFTER_A_LIE = 180.0
"""Seconds in which a cloud that lied for a moment must be believed again."""


# --- what can be asked -----------------------------------------------------------------------------------------------


@dataclass
class Said:
    """What came of a question: which pods were said to be gone, which were told, and an error if there was one."""

    gone: set[str] = field(default_factory=set)
    nothing_left: bool = False
    error: BaseException | None = None


def _of(proof: Proof) -> Said:
    return Said({gone.id for gone in proof.ended}, proof.proved)


def end(at: Site) -> Said:
    """End one pod: ``end``, ``cancel``, ``train``."""
    found = find_pod(at.cloud, at.ours.id)
    return _of(prove(at.cloud, [KnownPod(found.id)], time=at.now, sleep=at.sleep))


def teardown(at: Site) -> Said:
    """End a run's pod and whatever else its lease has."""
    lease = at.ours.lease_id
    return _of(prove(at.cloud, [KnownPod(at.ours.id)], lambda pod: pod.lease_id == lease, time=at.now, sleep=at.sleep))


def sweep(at: Site) -> Said:
    """End an environment's pods: two are known, the others would be found."""
    known = [KnownPod(at.ours.id), KnownPod(at.over.id)]
    return _of(prove(at.cloud, known, lambda pod: pod.fence_id == at.fence, trusted_from=at.now() + 30, time=at.now, sleep=at.sleep))


def reaper(at: Site) -> Said:
    """Reap."""
    found = reap(at.cloud, sleep=at.sleep, time=at.now)
    return Said({s.pod.id for s in found if s.ended is True})


def dry(at: Site) -> Said:
    """Look at what could be reaped, and what costs money."""
    found = reap(at.cloud, dry_run=True, sleep=at.sleep, time=at.now)
    costs = complete_list(at.cloud, at.cloud.costs, lambda item: (item.kind, item.id), time=at.now, sleep=at.sleep)
    for price in [s.pod.price_per_hour for s in found] + [item.per_hour for item in costs]:
        if price is not None and not 0 <= price < math.inf:
            raise AssertionError(f"a price of {price} was believed")
    return Said()


def create(at: Site) -> Said:
    """Rent a pod as ``up`` and ``train`` do, and once more, as after a crash; then the truth comes out and all is destroyed."""
    with tempfile.TemporaryDirectory(prefix="lc") as folder:
        home = Path(folder)
        lease = new_id()
        intents.make_folder(home / "intents", lease)
        spot = Places(root=home, home=home, outside=home, settings=home)
        world = OperationWorld({}, spot, lambda name: at.cloud, Control(), lambda text, severity: None, at.now, at.sleep)
        call = Call(world, "urn:pulumi:dev::trainyard::trainyard:index:Pod::pod", "pod")
        inputs = checked(POD, call, None, {
            "cloud": at.emulator.cloud.name, "lease_id": lease, "fence_id": at.fence,
            "end": format_time(datetime.now(UTC) + timedelta(hours=5)),
            "host_key_seed": "5a" * 32, "public_key": "ssh-ed25519 AAAA", "gpus": [at.offer.gpu], "max_price": 4 * at.offer.price_per_hour,
        })  # fmt: skip
        told: list[str] = []
        for _ in range(2):
            try:
                told.append(pod.create(call, inputs)[0])
            except Partial as error:
                told.append(error.id)
            except TrainyardError:
                pass
            mine = [r for r in at.emulator.fleet.all() if lease in r["name"]]
            if len(mine) > 1:
                raise AssertionError(f"{len(mine)} pods of one lease are paid at once")
            if wrong := {*told} & {at.ours.id, at.over.id, *at.others}:
                raise AssertionError(f"{wrong} is taken for the pod that was made")
        return _after_create(at, lease, spot, told)


def _after_create(at: Site, lease: str, places: Places, told: Sequence[str]) -> Said:
    at.emulator.faults.off()
    at.sleep(60)
    prices = {entry.id: entry.price for entry in intents.accepted(places.intents, lease)}
    for record in at.emulator.fleet.all():
        if record["id"] in prices and not 0 < (prices[record["id"]] or 0) < math.inf:
            raise AssertionError(f"the price of {record['id']} is on record as {prices[record['id']]}")
    proof = prove(
        at.cloud, [KnownPod(id) for id in {*told, *prices}], lambda pod: pod.lease_id == lease,
        trusted_from=at.now() + 200, time=at.now, sleep=at.sleep,
    )  # fmt: skip
    return Said({gone.id for gone in proof.ended}, proof.proved)


QUESTIONS: Mapping[str, Callable[[Site], Said]] = {
    "end": end,
    "teardown": teardown,
    "sweep": sweep,
    "reap": reaper,
    "dry": dry,
    "create": create,
}
KNOWN: Mapping[str, Callable[[Site], set[str]]] = {
    "end": lambda at: {at.ours.id}, "teardown": lambda at: {at.ours.id}, "sweep": lambda at: {at.ours.id, at.over.id},
    "reap": lambda at: {at.over.id}, "dry": lambda at: set(),
    "create": lambda at: {r["id"] for r in at.emulator.fleet.all()} - {at.ours.id, at.over.id, *at.others},
}  # fmt: skip
"""What each question is meant to end."""


# --- cases -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One lie. ``ignored``: the request to end a pod is taken and nothing comes of it."""

    question: str
    call: str
    lie: str
    length: str
    ignored: bool = False

    def __str__(self) -> str:
        return f"{self.question} / {self.call} / {self.lie} / {self.length}" + (" / ends ignored" if self.ignored else "")


def cases(cloud: EmulatedCloud) -> list[Case]:
    """Return all that a cloud can tell."""
    found, others = [], [call for call in calls(cloud) if call not in STANDARD]
    for question in QUESTIONS:
        for call in TO_CREATE if question == "create" else calls(cloud):
            lies = [*replies(cloud.fields), *(altered(cloud) if call in ("list", "get", "create") else ())]
            found += [
                Case(question, call, lie, length, ignored)
                for lie in lies for length in LENGTHS for ignored in (False, True)
                if not (ignored and (call in ("delete", *others) or question in ("dry", "create")))
            ]  # fmt: skip
    return found


def play(at: Site, case: Case) -> list[str]:
    """Play one case; return what is wrong."""
    at.open()
    try:
        faults, began = at.emulator.faults, at.now()
        lie, others = _lie(at, case), [call for call in calls(at.emulator.cloud) if call not in STANDARD]
        faults.on(f"lie-{case.call}", times=1 if case.length == "once" else None, **lie)
        if case.call in others:
            faults.on("lie-delete", status=500)  # else nobody asks it
        if case.ignored:
            faults.on("delete-ignored")
        at.until[0] = began + LENGTHS[case.length] if LENGTHS[case.length] not in (0.0, math.inf) else math.inf
        said = _ask(at, case)
        return _judged(at, case, said, at.now() - began)
    finally:
        at.clear()


def _lie(at: Site, case: Case) -> Mapping[str, Any]:
    return {**replies(at.emulator.cloud.fields), **altered(at.emulator.cloud)}[case.lie]


def _ask(at: Site, case: Case) -> Said:
    try:
        return QUESTIONS[case.question](at)
    except (CloudError, StillThere) as error:
        return Said(error=error)
    except UserError as error:
        return Said(error=None if "knows no pod of ours" in error.message and case.question == "end" else error)
    except Exception as error:
        return Said(error=AssertionError(f"{type(error).__name__}: {error}"))


def _judged(at: Site, case: Case, said: Said, took: float) -> list[str]:
    alive, meant = at.alive(), KNOWN[case.question](at)
    found = [f"{pod} is said to be gone, and runs" for pod in sorted(said.gone & alive)]
    if said.nothing_left and meant & alive and not said.gone >= meant:
        found.append("nothing is said to be left, and something runs")
    found += [f"{pod} is not ours to end, and was ended" for pod in sorted({*at.others} - alive)]
    if case.question in ("dry",):
        found += [f"{pod} was ended by a look" for pod in sorted({at.ours.id, at.over.id} - alive)]
    if case.question == "reap" and at.ours.id not in alive:
        found.append("a pod was ended within its lease")
    if isinstance(said.error, AssertionError | UserError):
        found.append(str(said.error))
    if took > PATIENCE:
        found.append(f"it took {took:.0f} s")
    if _is_over_soon(at, case) and (not meant <= said.gone or took > AFTER_A_LIE):
        found.append(f"after the lie had ended: gone {len(said.gone)} of {len(meant)}, {took:.0f} s, error {said.error}")
    return found


def _is_over_soon(at: Site, case: Case) -> bool:
    """Tell whether the lie is one that clouds tell in passing, told once: then the truth must come out."""
    lie, standard = _lie(at, case), (*STANDARD, *TO_CREATE)
    passing = "how" in lie or lie.get("drop") or lie.get("status", 200) >= 500 or lie.get("status") in (409, 429)
    return bool(case.length == "once" and passing and not case.ignored and case.question not in ("dry", "create") and case.call in standard)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the cases; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.lies", description=__doc__)
    parser.add_argument("--stack", choices=emulators(), default="runpod", help="the cloud: any that has an emulator")
    parser.add_argument("--only", default="", help="cases whose text holds this")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--cases", type=int, default=None, help="so many, drawn by chance (default: all)")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    chosen = [case for case in cases(emulator_of(given.stack)) if given.only in str(case)]
    if given.cases is not None:
        chosen = random.Random(seed).sample(chosen, min(given.cases, len(chosen)))
    print(f"{given.stack}, seed {seed}, {len(chosen)} lies", flush=True)
    failed: Counter[str] = Counter()
    with site(given.stack) as first:
        for case in chosen:
            for problem in play(open_site(first.emulator, first.offers), case):
                failed[case.lie] += 1
                print(f"FAILED  {case}: {problem}", flush=True)
    print(f"{len(chosen)} lies told, {sum(failed.values())} believed, seed {seed}; {dict(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
