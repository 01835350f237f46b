"""The trials of the fault matrix, each named after what was seen in the wild (providers' facts 1.2 and 10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.faults.endings import endings
from tests.faults.own_trials import OWN
from tests.faults.playable import faults_of
from tests.faults.trial import AT_ONCE, PREPARED, TRAINED, TRAINING, Fault, Trial, When
from tests.faults.world import STACK
from trainyard.rehearsal.kit import Fault as FaultRow
from trainyard.settings.clouds import entries

SHORT: dict[str, Any] = {"silent": 2.0}
BOOT = {"boot_accepted_minutes": 0.04, "boot_image_minutes": 0.04, "boot_ssh_minutes": 0.04}


def _create(name: str, seen: str, *, codes: tuple[int, ...], says_there: tuple[str, ...] = (), paid: bool = False, **does: float) -> Trial:
    """A create that goes wrong once."""
    return Trial(name, seen, (Fault(name, does=does),), codes, says_there=says_there, least_pods=int(paid))


CREATE = (
    _create("create-500-before", "transient upstream failure, nothing made", codes=(0,), paid=True),
    _create("create-500-after", "a create that fails for the client and still bills", codes=(0, 4), paid=True),
    _create("create-502-page-before", "a page of the proxy in front of the API", codes=(0,), paid=True),
    _create("create-502-page-after", "the proxy gave up, the API did not", codes=(0, 4), paid=True),
    _create("create-hangs-before", "no answer, nothing made", codes=(0,), paid=True, **SHORT),
    _create("create-hangs-after", "the pod is made, the answer never comes", codes=(0, 4), paid=True, **SHORT),
    _create("create-reset-before", "connection reset before the request was read", codes=(0,), paid=True),
    _create("create-reset-after", "connection reset after the pod was made", codes=(0, 4), paid=True),
    _create("create-slow", "a create slower than a client's timeout loses the id", codes=(0,), paid=True, delay=2.0),
    _create("create-no-capacity", "the catalog said HIGH, the create says 400", codes=(0,), paid=True),
    _create("create-rule-broken", "a broken rule looks just like no capacity", codes=(0,), paid=True),
    _create("create-no-balance", "less than an hour of credit", codes=(4,), says_there=("balance",)),
    _create("create-pool-forbidden", "this account may not use that pool", codes=(0,), paid=True),
    _create("create-forbidden-page", "a firewall's page instead of the API's answer", codes=(0,), paid=True),
    _create("create-unauthorized", "key revoked", codes=(4,)),
    _create("create-rate-limited", "429 with Retry-After", codes=(0,), paid=True),
    _create("create-rate-limited-mutely", "429 without Retry-After", codes=(0,), paid=True),
    _create("create-redirected", "a captive portal", codes=(0,), paid=True),
    _create("create-v1-answer", "the retired API v1 answers", codes=(4,)),
    _create("create-without-id", "an accepted create without an id", codes=(0, 4), paid=True),
    _create("create-empty-answer", "201 and no body", codes=(0, 4), paid=True),
    _create("create-cut-answer", "the answer breaks off", codes=(0, 4), paid=True),
    Trial("a create dearer than max_price", "the catalog said one price, the create's answer another", (Fault("create-dearer"),), (0,),
          ("costs $", "allowed are $"), settings={"max_price": lambda offer: 4 * offer.price_per_hour}, least_pods=2, most_pods=2),
    Trial("every create dearer than the estimate", "the catalog is of yesterday", (Fault("create-dearer", None),), (4,),
          ("costs $", "allowed are $"), least_pods=1, most_pods=9),
    Trial("sold out between price and create", "every create says no capacity", (Fault("create-no-capacity", None),), (4,),
          says_there=("no offer could be rented",), most_pods=0),
    Trial("sold-out", "stock-outs of a type, a data center or all", (Fault("sold-out", None, AT_ONCE),), (4,), most_pods=0),
    Trial("accepted unheard and late on the list", "not found right after create is no proof of absence",
          (Fault("create-reset-after"), Fault("list-late", None)), (0, 4), least_pods=1),
    Trial("accepted unheard and the list is down", "an error on the way to the proof",
          (Fault("create-reset-after"), Fault("list-500", 3)), (0, 4), least_pods=1),
)  # fmt: skip
LISTS = (
    Trial("list-500", "transient upstream failure", (Fault("list-500", 2),), least_pods=1),
    Trial("list-hangs", "no answer", (Fault("list-hangs", does=SHORT),), least_pods=1),
    Trial("list-cut", "the answer breaks off in the middle of a pod", (Fault("list-cut", when=TRAINED),), (0, 6), least_pods=1),
    Trial("list-page", "a proxy's page with status 200", (Fault("list-page", when=TRAINED),), (0, 6), least_pods=1),
    Trial("list-v1-array", "API v1 answers with a bare array", (Fault("list-v1-array", when=TRAINED),), (0, 6), least_pods=1),
    Trial("list-rate-limited", "429 with Retry-After", (Fault("list-rate-limited", 2),), least_pods=1),
    Trial("list-empty at the end", "an empty list before the pod is ended", (Fault("list-empty", 3, TRAINED),), least_pods=1),
    Trial("list-twice", "items listed twice", (Fault("list-twice", None),), least_pods=1),
    Trial("list-unknown-status", "a status nobody knew", (Fault("list-unknown-status", None),), least_pods=1),
    Trial("list-unknown-fields", "fields that a newer server adds", (Fault("list-unknown-fields", None),), least_pods=1),
    Trial("list-null-fields", "null where an object was promised", (Fault("list-null-fields", None),), least_pods=1),
    Trial("list-late", "a new pod shows in the list only after a while", (Fault("list-late", None),), least_pods=1),
    Trial("get-late", "404 for a pod that was just made", (Fault("get-late", None),), least_pods=1),
    Trial("deleted-still-listed", "an ended pod stays on the list for a while", (Fault("deleted-still-listed", None, does={"lag": 2.0}),),
          least_pods=1),
    Trial("get-500", "transient upstream failure", (Fault("get-500", 3),), least_pods=1),
    Trial("get-404-page", "a proxy's 404, which says nothing about the pod", (Fault("get-404-page", 3),), least_pods=1),
)  # fmt: skip
DELETES = (
    Trial("delete-500", "500 to a terminate", (Fault("delete-500", 3),), least_pods=1),
    Trial("delete-500-after", "ended, but the client was told 500", (Fault("delete-500-after"),), least_pods=1),
    Trial("delete-hangs-before", "no answer, nothing ended", (Fault("delete-hangs-before", does=SHORT),), least_pods=1),
    Trial("delete-hangs-after", "ended, the answer never comes", (Fault("delete-hangs-after", does=SHORT),), least_pods=1),
    Trial("delete-reset-before", "connection reset", (Fault("delete-reset-before", 2),), least_pods=1),
    Trial("delete-404-page", "a proxy's 404 taken for 'already gone' leaves the pod billing", (Fault("delete-404-page", 2),), least_pods=1),
    Trial("delete-ignored", "204, and the pod lives on", (Fault("delete-ignored"),), least_pods=1),
    Trial("delete-rate-limited", "429 with Retry-After", (Fault("delete-rate-limited", 2),), least_pods=1),
    Trial("delete-forbidden", "the key may read but not end", (Fault("delete-forbidden", None), Fault("graphql-error", None)), (6,),
          least_pods=1, slow=True),  # the suite has it in test_next_command.py
)  # fmt: skip


def _boot(name: str, seen: str, says: str = "phase", *, ssh: bool = False, **settings: object) -> Trial:
    # A pod that does not boot is given up for one of the next offer. Clouds have fewer words for its phases than RunPod, or others.
    one = (Fault(name, None),)
    return Trial(name, seen, one, (5,), ("phase",), (says,), settings={**BOOT, **settings}, least_pods=1, most_pods=3, ssh=ssh)


BOOTS = (
    _boot("boot-stuck-provisioning", "never gets a machine, while billing", "phase 'accepted'"),
    _boot("boot-stuck-starting", "a readiness loop without bound waits for ever", "phase 'image'"),
    _boot("boot-pull-fails", "the image cannot be pulled"),
    _boot("boot-error", "ERROR instead of RUNNING", "phase"),
    _boot("boot-no-port", "RUNNING without a public port", "phase 'ssh'", ssh=True),
    Trial("boot-exec-format", "an image for another processor", (Fault("boot-exec-format", None),), (0, 5), settings=BOOT, least_pods=1,
          most_pods=3),
    Trial("boot-restart-loop", "the entrypoint exits again and again", (Fault("boot-restart-loop", None),), (0, 5), settings=BOOT,
          least_pods=1, most_pods=3),
    Trial("boot-port-late", "the port comes long after RUNNING", (Fault("boot-port-late", does={"ports_after": 2.0}),), least_pods=1,
          ssh=True),
    Trial("boot-stale-port", "RUNNING with the port of another pod", (Fault("boot-stale-port", does={"stale": 2.0}),), least_pods=1,
          ssh=True),
    Trial("boot-slow", "allocated only after a while", (Fault("boot-slow", does={"slow": 2.0}),), least_pods=1),
)  # fmt: skip
LIVES = (
    Trial("pod-dies", "a pod vanishes by itself", (Fault("pod-dies", when=TRAINING),), (4,), ("ended",), steps=600, least_pods=1,
          missed=30.0),
    Trial("pod-exits", "stopped by the cloud; its volume is billed on",
          (Fault("pod-exits", when=TRAINING),), (4,), ("has stopped",), says_ended="has ended", steps=600,
          least_pods=1, missed=30.0),
    Trial("pod-dies with the result on it", "a pod vanishes before its result is home", (Fault("pod-dies", None, TRAINED),), (0, 4, 5, 7),
          least_pods=1, missed=30.0),
    Trial("container-restarts", "the container died and was started again", (Fault("container-restarts", when=TRAINING),), (1, 5, 6, 10),
          steps=600, least_pods=1),
    Trial("pod-key-refused", "the pod's own key may not end it", (Fault("pod-key-refused", None),),
          says=("only from outside",), least_pods=1, ends_itself=True),
    Trial("pod-key-blind", "the pod-scoped key sees nothing", (Fault("pod-key-blind", None),), says=("only from outside",), least_pods=1,
          ends_itself=True),
    Trial("pod-key-absent", "no key is put into the pod", (Fault("pod-key-absent", None),), (0, 10), least_pods=1, ends_itself=True),
    Trial("clock-behind", "the cloud's clock is an hour behind", (Fault("clock-behind", None, AT_ONCE),), settings={"hours": 3},
          least_pods=1, judged_by_end=False),
    Trial("clock-ahead", "the cloud's clock is an hour ahead", (Fault("clock-ahead", None, AT_ONCE),), (0, 1), least_pods=1,
          judged_by_end=False),
    Trial("catalog-500", "transient upstream failure", (Fault("catalog-500", 3, AT_ONCE),), least_pods=1),
    Trial("everything-500 during the training", "an outage", (Fault("everything-500", None, TRAINING, {"seconds": 4.0}),), steps=30,
          least_pods=1),
    Trial("everything-500 at the end", "an outage", (Fault("everything-500", None, TRAINED, {"seconds": 4.0}),), least_pods=1),
)  # fmt: skip


def _lies(how: str, *calls: str, when: When = PREPARED, codes: tuple[int, ...] = (0,), **does: object) -> Trial:
    """A whole training in which these answers have something untrue in them; its summary must cost what the ledger says."""
    when_said = "from the training on" if when is TRAINING else "from the create on"
    faults = tuple(Fault(f"lie-{call}", None, when, {"how": how, **does}) for call in calls)
    return Trial(f"{how} in {', '.join(calls)} {when_said}", "true answers with something untrue in them", faults, codes, least_pods=1)


ALTERED = (
    *(_lies(how, "create", "list", "get") for how in ("price null", "price text", "price NaN", "price negative", "price zero")),
    *(_lies(how, "list", "get", when=TRAINING) for how in ("price x10", "price null", "end far", "no marks")),
    # Not for good: where a cloud keeps on its lists what has ended, nothing else tells that it has (tests.faults.lies asks that).
    replace(_lies("status null", "list", "get", when=TRAINING, seconds=30.0), missed=35.0),
    _lies("another pod", "create", codes=(0, 4)),
    _lies("name upper case", "create", "list", codes=(0, 4)),
)


def trials(seed: int, cloud: str = STACK) -> tuple[Trial, ...]:
    """Return all that fit a cloud; the instants at which CI jobs are cancelled are drawn from a seed."""
    those = fitting(_every(seed), cloud)
    return (*those, *_traps(faults_of(cloud), those))


def left_out(seed: int, cloud: str) -> list[str]:
    """Return the names of those that make no sense at a cloud: its emulator knows no such fault, or its pods are of another kind."""
    fit = {trial.name for trial in fitting(_every(seed), cloud)}
    return [trial.name for trial in _every(seed) if trial.name not in fit]


def _every(seed: int) -> tuple[Trial, ...]:
    return (*CREATE, *LISTS, *DELETES, *BOOTS, *LIVES, *ALTERED, *OWN, *endings(seed))


def fitting(every: Iterable[Trial], cloud: str) -> list[Trial]:
    """Return the trials whose faults a cloud's emulator knows, and that ask of its pods no more than they can."""
    row, known = entries()[cloud], {fault.name for fault in faults_of(cloud)} | {""}
    able = [trial for trial in every if (row.self_terminate or not trial.ends_itself) and (row.ssh or not trial.ssh)]
    able = [trial for trial in able if row.starts or not trial.starts]
    return [trial for trial in able if {trial.faults[0].name if trial.faults else "", trial.needs} <= known]


def _traps(table: Sequence[FaultRow], others: Sequence[Trial]) -> Iterator[Trial]:
    """Yield a training with each fault of a table that no other trial has: whatever it exits with, it tells the truth."""
    tried = {fault.name for trial in others for fault in trial.faults} | {trial.needs for trial in others}
    for row in table:
        if row.name not in tried and not row.name.startswith("lie-"):
            at_once = row.kind in ("stock", "page") or row.on == "catalog"
            times, does = (None if row.kind in ("key", "page", "lag") else 1), (SHORT if row.does.get("hang") else {})
            yield Trial(
                row.name, row.seen, (Fault(row.name, times, AT_ONCE if at_once else PREPARED, does),), (0, 4, 5, 6, 10), most_pods=3
            )
