"""The end of what lies in a bucket, by a person's word: a result, all of a run, data. Every version goes.

The claim says it first and stays: whoever is cut off here is seen to have deleted, and the number is never used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.storage import objects
from trainyard.storage.client import StoreSettings
from trainyard.storage.inventory import ROOTS, StoredAttempt
from trainyard.storage.manifest import KEPT, POD_COMMITTED, SUCCESS
from trainyard.storage.markers import ATTEMPTS, Claim, mark_deleted
from trainyard.storage.objects import OpenUpload, open_uploads
from trainyard.storage.sweeper import objects_of
from trainyard.storage.versions import Version, keeps_versions, remove, versions


@dataclass(frozen=True, slots=True)
class Deletion:
    """What goes when an attempt, or everything below a prefix, is deleted."""

    what: str
    versions: tuple[Version, ...]
    uploads: tuple[OpenUpload, ...]
    attempt: StoredAttempt | None = None

    @property
    def bytes(self) -> int:
        """What it holds, all versions and open uploads together."""
        return sum(one.size for one in self.versions) + sum(one.bytes for one in self.uploads)

    @property
    def old(self) -> int:
        """How many of the versions are older ones, or delete markers."""
        return sum(not one.latest or one.marker for one in self.versions)


def of_attempt(settings: StoreSettings, one: StoredAttempt) -> Deletion:
    """Return what goes with an attempt: result, logs, checkpoints, open uploads; not its claim."""
    roots = [root for root in ROOTS if root != ATTEMPTS]
    uploads = [upload for root in roots for upload in open_uploads(settings, f"{root}{one.key}/")]
    return Deletion(str(one.key), objects_of(settings, one.key, keeps_versions(settings), roots), tuple(uploads), one)


def below(settings: StoreSettings, name: str) -> Deletion:
    """Return what goes with a key and everything below it as a folder."""
    listed = versions(settings, name, versioned=keeps_versions(settings))
    uploads = (upload for upload in open_uploads(settings, name) if _is_below(upload.key, name))
    return Deletion(name, tuple(one for one in listed if _is_below(one.key, name)), tuple(uploads))


def delete(settings: StoreSettings, those: Deletion, when: str) -> list[str]:
    """Delete for good; return what is still there and why. Safe to call again until it returns nothing.

    Of an attempt the claim is marked first, then its markers go: from then on nothing of it counts.
    """
    one, left = those.attempt, {}
    marks: Sequence[str] = []
    if one is not None:
        mark_deleted(settings, one.key, one.claim or Claim("", one.key.user, "", ""), when)
        marks = [one.key.prefix + name for name in (SUCCESS, KEPT, POD_COMMITTED)]
        left = remove(settings, (each for each in those.versions if each.key in marks))
    if not left:
        for upload in those.uploads:
            objects.drop(settings, upload.key, upload.upload_id)
        left = remove(settings, (each for each in those.versions if each.key not in marks))
    if one is not None and not left:
        claims = objects_of(settings, one.key, keeps_versions(settings), [ATTEMPTS])
        left = remove(settings, (each for each in claims if not each.latest))
    return [f"{key}: {why}" for key, why in left.items()]


def _is_below(key: str, name: str) -> bool:
    return key == name or key.startswith(name.rstrip("/") + "/")
