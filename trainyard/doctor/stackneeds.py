"""What doctor looks at for one stack: its settings, engine, cloud, credentials (presence only), bucket and fence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from trainyard.clouds import open_cloud
from trainyard.clouds.rehearsal import is_rehearsal
from trainyard.config import Places, group
from trainyard.doctor.finding import Finding
from trainyard.errors import UserError
from trainyard.runs.notices import readiness
from trainyard.runs.planning import containers
from trainyard.runs.trackers import readiness as trackers
from trainyard.settings import reader
from trainyard.settings.clouds import entry, problems
from trainyard.settings.ofcloud import unmade
from trainyard.settings.table import known_to
from trainyard.settings.variables import NO_EFFECT, account_keys, groups
from trainyard.stacks.facade import choose_engine, environment_stack, settings_of
from trainyard.storage.stores import can_sign, store_settings

_CREDENTIALS_HELP = "Put the keys into .env beside Pulumi.yaml, or export them."


def credentials(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Which clouds' and stores' credentials are set, by name."""
    none = True
    for cloud, names in account_keys().items():
        have = [name for name in names if env.get(name)]
        row = entry(cloud)
        missing = [name for name in row.keys if not env.get(name)] if row and not any(env.get(name) for name in row.key_aliases) else []
        if have:
            none = False
            half = f"{', '.join(have)} set, but not {', '.join(missing)}: set all of them, or none"
            yield Finding(f"{cloud} key", "warn" if missing else "ok", half if missing else f"{', '.join(have)} set")
    for problem in problems():
        yield Finding(f"{problem.name} cloud", "warn", problem.words, problem.hint)
    for store in groups("store"):
        needed = (*store.keys, *store.needed)
        if any(env.get(name) for name in needed):
            none = False
            yield _store_group(f"{store.of} store", needed, env)
    if none:
        yield Finding("credentials", "ok", "none set; the 'local' stack needs none")


def settings(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Whether everything in the stack's file is right."""
    values = settings_of(stack, places, env)
    lack = unmade(values)
    if lack is None:
        yield Finding("stack", "ok", f"{stack}: cloud {values.cloud}")
    else:
        yield Finding("stack", "fail", f"{stack}: {lack}", f"How: docs/clouds/{values.cloud}.md")


def engine(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Which engine serves the stack."""
    name, binary = choose_engine(environment_stack(stack, places, env))
    yield Finding("engine", "ok", f"{name} ({binary})" if binary else f"{name}: Trainyard's own, on Pulumi's state format")


def cloud(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Whether the cloud's credentials are there, and what it cannot give."""
    adapter = open_cloud(reader.cloud_of(places.root, stack), env, places)
    row = entry(adapter.name)
    credentials = "needs no credentials" if row is not None and not row.keys else "credentials present"
    where = f" (an emulator answers at {adapter.address})" if adapter.simulated else ""
    yield Finding("cloud", "ok", f"{adapter.name}, {credentials}{where}")
    if adapter.address and not adapter.simulated:
        yield Finding("cloud's API", "warn", f"asked at {adapter.address}, not at {adapter.name}'s own address", "Right for your proxy.")
    able = adapter.capabilities
    if not able.self_terminate and not able.deadline:
        text = "a pod of this cloud can be ended only from outside"
        yield Finding("end of pods", "warn", text, f"Let this run every ten minutes, from cron or CI: invoke reap --stack {stack}")


def image(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Whether the image is one that cannot change under the user."""
    values = settings_of(stack, places, env)
    if not known_to("image", values.cloud):
        return  # its pods show the files of the machine itself
    name, template = values.image, values.template
    if template:
        yield Finding("image", "ok", f"as template {template} says")
    elif name is not None and "@sha256:" in name:
        yield Finding("image", "ok", name)
    else:
        text = "none set: the cloud's own, by a tag, which can move" if name is None else f"{name}: a tag can move"
        yield Finding("image", "warn", text, "Name a linux/amd64 image by its digest; invoke image.build and image.push make one.")


def notices(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Whether those whom ``notify`` names can be told."""
    for lack in readiness.lacks(places.root, env, stack):
        yield Finding("notify", "warn", lack, f"Then try it: invoke notify.test --stack {stack}")


def curves(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Whether the trackers that ``trackers`` names can be told."""
    for lack in trackers.lacks(places.root, env, stack):
        yield Finding("trackers", "warn", lack, "How each is set up: docs/trackers.md")


def old_names(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Variables of older guides that have no effect here, and what says the same now."""
    for name, now in NO_EFFECT.items():
        if env.get(name):
            yield Finding(name, "warn", "set, but without effect", now)


def bucket(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Where results go, and how far the fence holds."""
    values = settings_of(stack, places, env)
    name, kind = values.bucket, values.store
    row = entry(values.cloud)
    if row is not None and not row.ssh:
        emulated = any(is_rehearsal(env.get(key, "")) for key in row.keys)
        containers.refuse_bucket(env, places, values.cloud, values, emulated=emulated)
    alone = "results come home over SSH, and the fence against late pods holds on this machine only"
    if not values.has_bucket:
        yield Finding("bucket", "warn", f"'bucket: none': {alone}", "Name a bucket in the stack's settings.")
        return
    if kind == "local":
        yield Finding("bucket", "ok", "on the local S3 server")
        return
    settings = store_settings(env, kind, name, places)
    if settings is None:
        yield Finding("bucket", "warn", f"no credentials of a store: {alone}", _CREDENTIALS_HELP)
    else:
        keys = "credentials present"
        if settings.chain is not None:
            keys = f"keys of AWS profile '{settings.chain}'" if settings.chain else "keys of Amazon's own chain"
        yield Finding("bucket", "ok", f"{settings.kind}, bucket {settings.bucket or 'made at the first up'}, {keys}")
        if not settings.presign and values.volume != settings.bucket:
            text = f"{settings.kind}'s S3 signs no URLs and its volume is not mounted in pods: results come home over SSH"
            yield Finding(
                "volume",
                "warn",
                text,
                f"Mount it: 'trainyard:volume: {settings.bucket or 'ID'}' (pods are then rented in its data center).",
            )


def _store_group(store: str, names: tuple[str, ...], env: Mapping[str, str]) -> Finding:
    try:
        group(env, names)
    except UserError as error:
        return Finding(store, "fail", error.message, _CREDENTIALS_HELP)
    return Finding(store, "ok", f"{', '.join(names)} set")


def alone(places: Places, env: Mapping[str, str], stack: str) -> Iterator[Finding]:
    """Whether a pod can bring its result to safety when no controller comes back."""
    values = settings_of(stack, places, env)
    kind = values.store
    store = None if not values.has_bucket or kind == "local" else store_settings(env, kind, values.bucket, places)
    if not values.commit_alone_minutes:
        why = "switched off (commit_alone_minutes: 0)"
    elif kind == "local" and values.has_bucket:
        why = None
    else:
        why = can_sign(store)
    row = entry(reader.cloud_of(places.root, stack))
    if why is not None and values.commit_alone_minutes and row is not None and not row.ssh:
        return  # without such a bucket there is no run there at all, and that is a finding of its own
    ends = row is None or row.self_terminate or row.deadline
    if why is None:
        so = f"a pod commits alone {values.commit_alone_minutes:g} minutes after the training"
        yield Finding("lost controller", "ok", f"{so}, and ends itself" if ends else f"{so}; it is ended from outside")
        if store is not None and store.session_token is not None:
            yield Finding(
                "lost controller", "warn", "the session's keys end before a long lease does: a pod cannot commit alone after that"
            )
    else:
        yield Finding(
            "lost controller",
            "ok",
            f"a pod cannot commit alone: {why}; its result waits on it" + (", no longer than its lease" if ends else ""),
        )


CHECKERS: Mapping[str, Callable[..., Iterable[Finding]]] = {
    "stack": settings,
    "engine": engine,
    "cloud": cloud,
    "image": image,
    "old names": old_names,
    "bucket": bucket,
    "lost controller": alone,
    "notify": notices,
    "trackers": curves,
}
