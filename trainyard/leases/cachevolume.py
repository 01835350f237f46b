"""How the network volume of a model cache comes to be, grows and goes: by the law of pods, as nothing of a cloud is idempotent.

Its name is its identity: it is looked for by name before anything is asked for, and after an answer that never came. An intent on
disk tells the next process that a request has left; of two volumes of a name the one with the lowest id is the cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from trainyard.clouds.protocol import Capabilities
from trainyard.clouds.volumes import KeepsVolumes, NetworkVolume
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity
from trainyard.filelock import hold_lock
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json

Discarded = Literal["gone", "mounted", "still there"]
_POLL = 3.0
_LOOKS = 10
"""How often a list is asked for a volume that was deleted, before it counts as still there."""


@dataclass(frozen=True, slots=True)
class CacheOrder:
    """The volume that is to be there. ``size_gb`` at least; one that is larger stays so."""

    name: str
    place: str
    size_gb: float


@dataclass(frozen=True, slots=True)
class CacheMaker:
    """What is needed to see to a cloud's caches: its volumes, this machine's folder of locks and intents, and a clock."""

    volumes: KeepsVolumes
    capabilities: Capabilities
    folder: Path
    say: Callable[[str], object]
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = field(default=time.sleep)

    def ensure(self, order: CacheOrder) -> NetworkVolume:
        """Return the volume of an order: the one that is there, made larger where it is too small, else a new one.

        Raises NoCapacity or CloudRefused where nothing was made, CloudUnknown where one may have been: the next call finds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.folder / f"{order.name}.lock"
        with hold_lock(lock, lambda: self.say(f"another process sees to {order.name}; waiting for it")):
            volume = self._that_is_there(order) or self._create(order)
            return self._grown(volume, order.size_gb)

    def _that_is_there(self, order: CacheOrder) -> NetworkVolume | None:
        """Return the volume; one whose request has left a moment ago, from here, is waited for."""
        intent = self._intent(order)
        start = _start_of(intent)
        volumes = self._of_name(order)
        while not volumes and start is not None and self.now() < start + self._patience:
            self.sleep(_POLL)
            volumes = self._of_name(order)
        intent.unlink(missing_ok=True)
        if len(volumes) > 1:
            more = ", ".join(volume.id for volume in volumes[1:])
            self.say(f"there are {len(volumes)} volumes {order.name}: {volumes[0].id} is the cache; invoke cache.clean removes {more}")
        return volumes[0] if volumes else None

    def _create(self, order: CacheOrder) -> NetworkVolume:
        intent, start = self._intent(order), self.now()
        write_atomic(intent, json.dumps({"start": start}), durable=True)
        try:
            ours = self.volumes.create(order.name, order.place, order.size_gb)
        except (NoCapacity, CloudRefused):
            intent.unlink(missing_ok=True)
            if another := self._of_name(order):
                return another[0]  # where names are unique, who comes second is refused
            raise
        except CloudError as error:
            ours = self._lost_one(order, start, error)
        first = self._first(order, ours)
        intent.unlink(missing_ok=True)
        return first

    def _lost_one(self, order: CacheOrder, start: float, error: CloudError) -> NetworkVolume:
        """Return what a create without a clear answer has made; the intent stays where a list shows nothing."""
        while True:
            try:
                volumes = self._of_name(order)
            except CloudError:
                volumes = []
            if volumes:
                return volumes[0]
            if self.now() >= start + self._patience:
                said = f"whether the volume {order.name} was made is not known: {error.message}"
                raise CloudUnknown(said, hint="invoke cache shows it when it is there; the next run looks for it by its name.") from None
            self.sleep(_POLL)

    def _first(self, order: CacheOrder, ours: NetworkVolume) -> NetworkVolume:
        """Return the cache: of two that were made at once the one with the lowest id; ours goes where it is the other, and empty."""
        try:
            others = self._of_name(order)
        except CloudError:
            return ours  # it is there; a second one is told when the cache is next looked at
        first = min([ours, *others], key=lambda volume: volume.id)
        if first.id != ours.id and not any(volume.attached for volume in others if volume.id == ours.id):
            self.say(f"another machine has made {order.name} at the same time: {first.id} is the cache, {ours.id} is deleted")
            if not self.remove(ours.id):
                self.say(f"volume {ours.id} is still there; invoke cache.clean removes it")
        return first

    def _grown(self, volume: NetworkVolume, size_gb: float) -> NetworkVolume:
        terms = self.volumes.terms
        if volume.size_gb is None or volume.size_gb >= size_gb or not terms.grows:
            return volume
        try:
            self.volumes.grow(volume.id, size_gb)
        except CloudError as error:
            self.say(f"{volume.name} stays at {volume.size_gb:g} GB and may become full: {error.message}")
            return volume
        return replace(volume, size_gb=size_gb, per_month=self.volumes.per_month(size_gb))

    def discard(self, volume: NetworkVolume) -> Discarded:
        """Delete a cache, unless a pod mounts it by now. Raises CloudError where the cloud does not tell which do."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.folder / f"{volume.name}.lock", lambda: self.say(f"a run sees to {volume.name}; waiting for it")):
            now = next((one for one in self.volumes.list() if one.id == volume.id), None)
            if now is not None and now.attached:
                return "mounted"
            return "gone" if self.remove(volume.id) else "still there"

    def remove(self, volume_id: str) -> bool:
        """Delete a volume with all that lies on it; tell whether the cloud's list has proved it gone."""
        try:
            self.volumes.delete(volume_id)
        except CloudError as error:
            self.say(f"volume {volume_id}: {error.message}")
        absent = 0
        for _ in range(_LOOKS):
            try:
                absent = absent + 1 if all(volume.id != volume_id for volume in self.volumes.list()) else 0
            except CloudError:
                absent = 0
            if absent >= self.capabilities.listings:
                return True
            self.sleep(_POLL)
        return False

    @property
    def _patience(self) -> float:
        return self.capabilities.post_timeout + self.capabilities.settle

    def _of_name(self, order: CacheOrder) -> list[NetworkVolume]:
        same = [volume for volume in self.volumes.list() if (volume.name, volume.place) == (order.name, order.place)]
        return sorted(same, key=lambda volume: volume.id)

    def _intent(self, order: CacheOrder) -> Path:
        return self.folder / f"{order.name}.json"


def _start_of(intent: Path) -> float | None:
    """Return when a request has left from here of which no outcome is known."""
    try:
        return float(parse_json(intent.read_text(encoding="utf-8"))["start"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never half written: write_atomic; what a person has put there says nothing
