"""How one pod is created without ever paying for two: find what an earlier attempt left, else ask offer by offer.

Everything here runs with the pod's intent locked. Knows nothing of Pulumi.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trainyard.clouds.absence import LEAVE, KnownPod, prove
from trainyard.clouds.listing import listing_pause
from trainyard.clouds.marker import HOST_KEY_MARK, PodName, budget_env, parse_name
from trainyard.clouds.protocol import Capabilities, Cloud, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, StillThere, UnwantedPod
from trainyard.leases import fence, intents
from trainyard.leases.intents import Intent, accepted
from trainyard.leases.world import Interrupted, OperationWorld
from trainyard.remote.keys import HostKey
from trainyard.retries import EFFECT

_FAR = datetime.max.replace(tzinfo=UTC)
_DEAD = ("exited", "error")


class Ambiguous(CloudError):
    """The create request failed without a definite answer, and the pod is there."""

    def __init__(self, info: PodInfo, offer: Offer, cause: Exception) -> None:
        super().__init__(f"the cloud's answer to the create request was unclear ({cause}), but the pod is there: {info.id}")
        self.info = info
        self.offer = offer


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRequest:
    """One pod as it is asked for. Times, ids and name are in ``spec``; dollars an hour at most in ``query``."""

    query: OfferQuery
    spec: PodSpec
    key: HostKey
    budget: float | None = None
    heartbeat_minutes: float | None = None
    idle_minutes: float | None = None
    stall_minutes: float | None = None
    only_offers: tuple[str, ...] | None = None
    """Ids of the only offers to try, in this order; None: any."""
    avoid_offers: tuple[str, ...] = ()
    store: str | None = None
    bucket: str | None = None
    """Where it is written that the environment is closed."""

    def spec_for(self, offer: Offer) -> PodSpec:
        """Return the pod with what its watchdog and a second machine have to know of it."""
        return self.spec_at(offer.price_per_hour)

    def spec_at(self, price: float | None) -> PodSpec:
        """Return the same, for a price in dollars an hour."""
        # The fingerprint travels with the pod, so that a second machine can pin it too.
        env = {**self.spec.env, HOST_KEY_MARK: self.key.public}
        env |= budget_env(price, self.budget, {"HEARTBEAT": self.heartbeat_minutes, "IDLE": self.idle_minutes, "STALL": self.stall_minutes})
        return replace(self.spec, env=env, host_key=self.key.private_pem)


def obtain(world: OperationWorld, cloud: Cloud, request: PodRequest) -> tuple[PodInfo, Offer | None]:
    """Return the pod: the one that an earlier attempt left (without an offer), else a new one with the offer that was taken.

    Raises RefusedError under a closed lease or fence, else what create() raises.
    """
    spec, limit = request.spec, request.query.max_price
    with _hold(world, spec.name) as intent:
        fence.refuse_if_closed(world, spec.fence_id, spec.lease_id, request.store, request.bucket)
        left = find(world, cloud, intent, spec.name)
        if left is not None and not too_dear(left, limit):
            world.info(f"adopted {left.id}, which an earlier attempt had created")
            return left, None
        if left is not None:
            end_too_dear(world, cloud, intent, left, limit)
        return create(world, cloud, intent, _offers(world, cloud, request), request.spec_for, limit)


def look_up(world: OperationWorld, cloud: Cloud, name: str) -> PodInfo | None:
    """Return the pod of a name, None when it is proved that there is none and will be none."""
    with _hold(world, name) as intent:
        return find(world, cloud, intent, name)


def _hold(world: OperationWorld, name: str) -> AbstractContextManager[Intent]:
    return intents.hold(
        world.places.intents, name, world.time(), world.sleep, lambda: world.info(f"another process is creating {name}: waiting for it")
    )


def _offers(world: OperationWorld, cloud: Cloud, request: PodRequest) -> list[Offer]:
    end = request.spec.end
    query = request.query if end is None else replace(request.query, hours=max(0.0, end.timestamp() - world.time()) / 3600)
    offers = [offer for offer in cloud.offers(query) if offer.id not in request.avoid_offers]
    if request.only_offers is None:
        return offers
    by_id = {offer.id: offer for offer in offers}
    return [by_id[id] for id in request.only_offers if id in by_id]


def find(world: OperationWorld, cloud: Cloud, intent: Intent, name: str) -> PodInfo | None:
    """Return the pod of that name when the cloud has it; None is proof that it has not and will not get it.

    Waits out a request without outcome, ends duplicates and pods of an older spec, waits for those that are
    already leaving.
    """
    ours = _parts(name)
    # Pods of an older spec, too: a list that misses the one that is being replaced must not make two of them.
    ids = [pod.id for pod in accepted(world.places.intents, ours.lease_id) if pod.ended is None]
    pods = _look(world, cloud, intent, ours, ids)
    if not pods:
        return None
    _need_same_by_id(cloud, pods)
    alive = sorted((pod for pod in pods if pod.name == name and _lives(pod)), key=lambda pod: (pod.created or _FAR, pod.id))
    keep = alive[0] if alive else None
    for pod in pods:
        if pod is not keep and pod.status != "terminating":
            world.allowed(f"ending {pod.id}")
            world.info(f"ending {pod.id} ({pod.name}): a leftover of the same lease")
            cloud.terminate(pod.id)
    if keep is not None:
        intent.adopted(keep.id, keep.price_per_hour, world.time())
        return keep
    _wait_until_left(world, cloud, ours, ids)
    return None


def create(
    world: OperationWorld,
    cloud: Cloud,
    intent: Intent,
    offers: Sequence[Offer],
    spec_for: Callable[[Offer], PodSpec],
    limit: float | None = None,
) -> tuple[PodInfo, Offer]:
    """Ask for the pod, offer by offer, until one is taken at a price within ``limit`` dollars an hour.

    Only a definite no, and a price in the answer that is too high, move on. Raises Ambiguous when the answer was
    unclear and the pod is there, the cloud's own error otherwise; the intent then says whether the outcome is open.
    """
    refusals: list[str] = []
    for offer in offers:
        try:
            info = _ask(world, cloud, intent, offer, spec_for(offer))
        except NoCapacity as error:
            refusals.append(f"{offer.id}: {error.message}")
            continue
        except UnwantedPod as error:
            sentence = f"{error.message}: it was ended at once"
            _end_at_once(world, cloud, intent, KnownPod(error.pod_id, offer.price_per_hour), sentence)
            refusals.append(f"{offer.id}: {sentence}")
            continue
        except Ambiguous as error:
            if not too_dear(error.info, limit, offer):
                raise
            info = error.info
        if not too_dear(info, limit, offer):
            return info, offer
        refusals.append(f"{offer.id}: {end_too_dear(world, cloud, intent, info, limit, offer)}")
    raise NoCapacity("no offer could be rented: " + ("; ".join(refusals) or "the cloud has none that fits"))


def too_dear(info: PodInfo, limit: float | None, offer: Offer | None = None) -> bool:
    """Tell whether a pod costs more than was allowed; without a limit, clearly more than its offer said."""
    if info.price_per_hour is None:
        return False
    if limit is None:
        return offer is not None and info.price_per_hour > offer.price_per_hour * 1.1 + 0.05
    return info.price_per_hour > limit + 1e-6


def end_too_dear(
    world: OperationWorld, cloud: Cloud, intent: Intent, info: PodInfo, limit: float | None, offer: Offer | None = None
) -> str:
    """End a pod that turned out too dear before anything boots on it, and return what is to be told.

    Raises StillThere when its end is not proved: then nothing else is rented.
    """
    allowed = limit if limit is not None else offer.price_per_hour if offer is not None else 0.0
    sentence = f"its pod {info.id} costs ${info.price_per_hour or 0:.2f}/h, allowed are ${allowed:.2f}/h: it was ended at once"
    _end_at_once(world, cloud, intent, KnownPod(info.id, info.price_per_hour), sentence)
    return sentence


def _end_at_once(world: OperationWorld, cloud: Cloud, intent: Intent, pod: KnownPod, sentence: str) -> None:
    world.warn(sentence)
    proof = prove(cloud, [pod], time=world.time, sleep=world.sleep, allowed=world.allowed)
    proof.require("Nothing else was rented. Run destroy, then try again.")
    intent.ended(pod.id, proof.ended_at(pod.id) or world.time())


def _ask(world: OperationWorld, cloud: Cloud, intent: Intent, offer: Offer, spec: PodSpec) -> PodInfo:
    """Send a create request and write its outcome down; one more, once it is proved that an unclear first one made nothing."""
    for again in (False, True):
        world.go_on("renting")
        world.asked_for("renting")
        intent.start(offer.id, world.time())
        try:
            info = cloud.create(spec, offer)
        except (NoCapacity, CloudRefused) as error:
            intent.refused(error.message, world.time())
            raise
        except UnwantedPod as error:
            intent.created(error.pod_id, offer.price_per_hour, world.time())
            raise
        except Exception as error:
            pod = _after_unclear(world, cloud, spec)
            if pod is None and (again or not isinstance(error, CloudUnknown)):
                raise
            pod = pod or _proved_unmade(world, cloud, intent, spec, error)
            if pod is not None:
                pod = replace(pod, created=pod.created or cloud.now())
                intent.created(pod.id, pod.price_per_hour, world.time())
                raise Ambiguous(pod, offer, error) from error
            world.warn(f"{error.message if isinstance(error, CloudError) else error}; no pod was made (proved), asking once more")
            continue
        if not info.price_per_hour:
            info = replace(info, price_per_hour=offer.price_per_hour)  # it is not free because the answer leaves the price out
        info = replace(info, created=info.created or cloud.now())
        intent.created(info.id, info.price_per_hour, world.time())
        return info
    raise AssertionError("the second request has ended in one way or another")


def _proved_unmade(world: OperationWorld, cloud: Cloud, intent: Intent, spec: PodSpec, error: Exception) -> PodInfo | None:
    """Watch until an unclear request cannot bring a pod any more; return the one that it made, None when it made none.

    Raises the request's own error where that cannot be proved: its outcome stays open.
    """
    try:
        namesakes = [pod for pod in _look(world, cloud, intent, _parts(spec.name), []) if pod.name == spec.name and _lives(pod)]
    except (CloudError, Interrupted):
        raise error from None
    if namesakes:
        _need_same_by_id(cloud, namesakes)
        return min(namesakes, key=lambda pod: (pod.created or _FAR, pod.id))
    intent.refused("no pod was made, as the cloud's listings prove", world.time())
    return None


def listed(cloud: Cloud, ids: Sequence[str]) -> list[PodInfo]:
    """Return the cloud's list, and of the pods that intents name those that it does not show (yet).

    A listing may lag behind the answer to a create request; what an intent names is asked for by its id.
    """
    # One that is shown without its marks is as good as not shown.
    pods = [pod for pod in cloud.list() if pod.lease_id is not None or pod.id not in ids]
    known = {pod.id for pod in pods}
    named = [cloud.get(pod_id) for pod_id in ids if pod_id not in known]
    return [*pods, *(pod for pod in named if pod is not None and not cloud.capabilities.over(pod))]


def _need_same_by_id(cloud: Cloud, pods: Sequence[PodInfo]) -> None:
    """Raise CloudUnknown for a list that mixes pods up: what by its id is another's is neither adopted nor ended."""
    for pod in pods:
        by_id = cloud.get(pod.id)
        if by_id is not None and by_id.lease_id != pod.lease_id:
            raise CloudUnknown(f"{cloud.name} lists pod {pod.id} with marks that it has not by its id")


def open_until(capabilities: Capabilities, start: float, now: float) -> float:
    """Return the time after which a request begun at ``start`` cannot bring a pod any more."""
    # A clock that was set back must not make this wait longer than the rule itself.
    return min(start, now) + capabilities.post_timeout + capabilities.settle


def _look(world: OperationWorld, cloud: Cloud, intent: Intent, ours: PodName, ids: Sequence[str]) -> list[PodInfo]:
    record = intent.record()
    ids = list(dict.fromkeys([*record.ids, *ids]))
    caps = cloud.capabilities
    now = world.time()
    if record.start is None or record.resolved:
        return _same_logical(listed(cloud, ids), ours)
    until, shown_times, empty = open_until(caps, record.start, now), False, 0
    while True:
        pods = _same_logical(listed(cloud, ids), ours)
        if pods:
            return pods
        left = until - world.time()
        empty = empty + 1 if left <= 0 else 0
        if empty >= caps.listings:
            return []
        if left > 1 and not shown_times:
            shown_times = True
            world.info(f"an earlier create request of {ours} has no known outcome: watching the cloud for {left:.0f} s")
        world.sleep(min(left, 2.0) if left > 0 else listing_pause(caps))


def _after_unclear(world: OperationWorld, cloud: Cloud, spec: PodSpec) -> PodInfo | None:
    """List until the cloud must have shown what it accepted. Failing to list leaves the outcome open."""
    until = world.time() + cloud.capabilities.settle
    while True:
        try:
            namesakes = [pod for pod in cloud.list() if pod.name == spec.name and pod.lease_id == spec.lease_id and _lives(pod)]
        except CloudError as error:
            world.warn(f"cannot list the cloud's pods after an unclear answer: {error}")
            namesakes = []
        if namesakes:
            _need_same_by_id(cloud, namesakes)
            return min(namesakes, key=lambda pod: (pod.created or _FAR, pod.id))
        if world.time() >= until or world.control.changed.is_set():
            return None
        world.sleep(min(2.0, max(0.1, until - world.time())))


def _wait_until_left(world: OperationWorld, cloud: Cloud, ours: PodName, ids: Sequence[str]) -> None:
    until, pauses = world.time() + LEAVE, EFFECT.pauses()
    while left := _same_logical(listed(cloud, ids), ours):
        if world.time() >= until:
            names = ", ".join(f"{pod.id} ({pod.raw_status})" for pod in left)
            raise StillThere(f"pods of this lease do not go away: {names}", hint="Nothing was rented. Run destroy, then try again.")
        world.sleep(next(pauses))


def _same_logical(pods: list[PodInfo], ours: PodName) -> list[PodInfo]:
    """Return the pods of this lease and logical name, and those of the lease whose name is shown wrong: a lease has one pod."""
    return [pod for pod in pods if pod.lease_id == ours.lease_id and _logical(pod) in (None, ours.logical_name)]


def _logical(pod: PodInfo) -> str | None:
    parts = parse_name(pod.name)
    return parts.logical_name if parts else None


def _lives(pod: PodInfo) -> bool:
    return pod.status != "terminating" and pod.status not in _DEAD


def _parts(name: str) -> PodName:
    parts = parse_name(name)
    if parts is None:
        raise ValueError(f"not a pod name of ours: {name}")
    return parts
