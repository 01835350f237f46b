"""A rehearsal of a stack: the whole story against the emulator of its cloud, in a world of its own.

Own checkout folder (links to the program, a copy of the settings), own state, own bucket on the local S3 server (or
what plays the cloud's own store, where the stack keeps its results on one), own ledger, a throw-away key. Nothing of
it is reached by a run that was not started as a rehearsal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard import config, yamlfile
from trainyard.config import Places, settings_file
from trainyard.errors import Detached, DiskFull, StillThere, TrainyardError, UserError
from trainyard.pod.boot import OUR_IMAGE, starts_watchdog_itself
from trainyard.rehearsal.emulators import rehearsed
from trainyard.rehearsal.kit import Furnishing, OwnService, refuse_beside_the_real, start
from trainyard.rehearsal.kit.imageroot import IMAGE_ENV, check_root
from trainyard.rehearsal.living import WORLDS, inside, kept
from trainyard.settings import reader
from trainyard.settings.clouds import entries
from trainyard.settings.table import NO_BUCKET, StackSettings
from trainyard.storage import local
from trainyard.storage.stores import store_settings

_LINKED = ("infra", "playbooks", "templates", "tasks.py", "Pulumi.yaml")
_OWN_STORE = re.compile(r"^\s*trainyard:(store|bucket|disk_gb)\s*:.*\n?", re.MULTILINE)
_DISK_GB = 10
"""What the rented pod would have need not be free on this machine."""


@dataclass(frozen=True, slots=True)
class World:
    """Where a rehearsal lives and with which environment its verbs run."""

    root: Path
    env: Mapping[str, str]
    otherwise: str | None = None
    """What the real run would do in another way, for a person; None where nothing of that kind is known."""


class RehearsalLeft(TrainyardError):
    """The person left, and what was rehearsed has ended with that."""

    exit_code = 130


@contextmanager
def rehearsal(stack: str, places: Places, env: Mapping[str, str], rootfs: Path | None = None) -> Iterator[World]:
    """Run the emulator of a stack's cloud while the block lasts; its pods are ended at the end.

    With ``rootfs`` its pods are made from the files of a trainer image that lie in that folder.

    Raises UserError for a stack whose cloud has no emulator, RefusedError beside a real address, and RehearsalLeft for
    Detached: nothing is there to come back to.
    """
    ended, again = "its cloud, its pods and its store have ended with it; nothing goes on", f"Again: invoke rehearse --stack {stack}"
    settings = reader.load(places.root, stack)
    try:
        with _world(stack, places, env, settings, rootfs) as world:
            yield world
    except Detached:
        raise RehearsalLeft(f"the rehearsal was left before its end: {ended}", hint=again) from None
    except (StillThere, DiskFull) as error:
        error.hint = f"It was a rehearsal: {ended}. {again}"
        raise


@contextmanager
def _world(
    stack: str, places: Places, env: Mapping[str, str], settings: StackSettings, rootfs: Path | None
) -> Iterator[World]:  # fmt: skip
    cloud = rehearsed(settings.cloud)
    base = places.home / WORLDS / stack
    root, own = base / "checkout", _own_places(base / "checkout", base)
    inner = config.places(root, own)
    if isinstance(cloud, OwnService):
        if rootfs is not None:
            raise UserError(f"{cloud.title} starts no image: there is nothing that --rootfs could be the files of")
        with _own_service(cloud, stack, places, env, settings) as world:
            yield world
        return
    refuse_beside_the_real(cloud, env)
    files = check_root(rootfs, cloud) if rootfs is not None else None
    emulator = start(cloud, base / "cloud", rootfs=files, env=env)
    room = Furnishing(emulator, settings, env, inner)
    try:
        with cloud.furnish(room) if cloud.furnish else contextlib.nullcontext():
            _checkout(root, stack, places, room.store or {"store": "local"})
            envs = str(_share_environments(places, base / "cloud" / "machines"))
            if files is not None:
                _lead(root / f"Pulumi.{stack}.yaml", {"image": settings.image if starts_watchdog_itself(settings.image) else OUR_IMAGE})
                envs = IMAGE_ENV["TRAINYARD_ENVS"]
            _share_environments(places, base / "outside" / "cloud")
            variables = {**emulator.env, **own, **room.variables, "TRAINYARD_ENVS": envs}
            with kept(base, variables, cloud.hidden):
                yield World(root, inside(env, variables, cloud.hidden), other_road(settings, env, places))
    finally:
        emulator.stop(end_pods=True)
        local.stop(inner)


@contextmanager
def _own_service(
    cloud: OwnService, stack: str, places: Places, env: Mapping[str, str], settings: StackSettings
) -> Iterator[World]:  # fmt: skip
    base = places.home / WORLDS / stack
    root, own = base / "checkout", _own_places(base / "checkout", base)
    inner = config.places(root, own)
    try:
        with cloud.serve(base / "cloud", settings) as (lead, variables):
            _checkout(root, stack, places, {"store": "local"})
            _lead(root / f"Pulumi.{stack}.yaml", lead)
            envs = _share_environments(places, base / "outside" / "cloud")
            envs = _share_environments(places, base / "cloud" / cloud.pods) if cloud.pods else envs
            all_variables = {**variables, **own, "TRAINYARD_ENVS": str(envs)}
            with kept(base, all_variables, ()):
                yield World(root, inside(env, all_variables, ()), other_road(settings, env, places))
    finally:
        local.stop(inner)


def _lead(path: Path, lead: Mapping[str, object]) -> None:
    """Write into a copy of a stack's settings what leads to the rehearsal's own service."""
    document = yamlfile.load_map(path)
    values = document["config"]
    assert isinstance(values, dict)
    rest = {key: value for key, value in values.items() if key.partition(":")[2] not in lead}
    ours = {f"{config.PROJECT}:{name}": value for name, value in lead.items() if value is not None}
    path.write_text(yamlfile.dump({**document, "config": {**rest, **ours}}), encoding="utf-8")


def _own_places(root: Path, base: Path) -> dict[str, str]:
    return {"TRAINYARD_PROJECT_DIR": str(root), "TRAINYARD_HOME": str(root / ".trainyard"), "TRAINYARD_LOCAL_ROOT": str(base / "outside")}


def other_road(settings: StackSettings, env: Mapping[str, str], places: Places) -> str | None:
    """Say that the real run's result would not take the road by the bucket that a rehearsal's takes; None where it would."""
    if settings.bucket not in (None, NO_BUCKET) or settings.store == "local":
        return None
    if settings.bucket == NO_BUCKET:
        why = "its settings say 'bucket: none'"
    elif store_settings(env, settings.store, None, places) is None:
        why = "no store's keys are set"
    else:
        return None
    row = entries().get(settings.cloud)
    then = "brings its result home over SSH" if row is None or row.ssh else "is refused without one"
    return f"the result goes to a bucket on this machine; the real run has none ({why}) and {then}"


def _checkout(root: Path, stack: str, places: Places, store: Mapping[str, str]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in _LINKED:
        link = root / name
        link.unlink(missing_ok=True)
        if (places.root / name).exists():  # a repository of one's own need not have them all
            link.symlink_to(places.root / name)
    text = _OWN_STORE.sub("", settings_file(places.root, stack).read_text(encoding="utf-8"))
    lines = [f"  trainyard:{name}: {value}\n" for name, value in {**store, "disk_gb": _DISK_GB}.items()]
    (root / f"Pulumi.{stack}.yaml").write_text(text.rstrip("\n") + "\n" + "".join(lines), encoding="utf-8")


def _share_environments(places: Places, cloud: Path) -> Path:
    """Let a local cloud see the Python environments of this machine's own one (some GB each); return where."""
    shared, link = places.cloud / "envs", cloud / "envs"
    shared.mkdir(parents=True, exist_ok=True)
    cloud.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        if link.is_dir():
            shutil.rmtree(link)
        os.symlink(shared, link)
    return link
