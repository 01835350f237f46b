"""What a run's container is made of on a cloud without SSH: one bundle in the bucket, decided before anything is rented.

Programs, the recipe's bundle, the job, orders to fetch data, and every URL that the container will need: nobody can hand it
anything later but by the bucket. The bundle is proven by the sha256 in the create request; what is secret (the bundle's own URL,
the secret of the run, what the job gets) travels beside it, in the cloud's own secret variables, encrypted in the stack's state.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trainyard import yamlfile
from trainyard.clock import format_time
from trainyard.config import PROJECT
from trainyard.errors import RefusedError, StoreError
from trainyard.files import write_atomic
from trainyard.pod.boot import KEYS, watchdog_source
from trainyard.pod.podprogram import pod_program
from trainyard.remote.jobs import job_programs
from trainyard.remote.protocol import quote
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone, inputs, jobkeys, restore, start
from trainyard.runs.life.judge import declared_of
from trainyard.runs.planning.containers import BOOT_SLACK, refuse_store
from trainyard.runs.records.home import REPORTS, STATUS
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.secret import Secret
from trainyard.settings import reader
from trainyard.stacks import facade
from trainyard.storage import live
from trainyard.storage.checkpoints import StoredFile
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.podfetch import DEFINITE, encode_order
from trainyard.storage.podplan import open_plan
from trainyard.storage.podtargets import PodTarget, target_of

WORKSPACE = "/@workspace@"
"""Stands for the container's workspace, which only the container knows (pod/arrival.py)."""
_FILES = {"log": ("job", "log"), "metrics": ("output", "metrics.jsonl")}


def prepare(context: CommandContext, record: RunRecord, folder: RunFolder) -> None:
    """Put the run's bundle into the bucket and what is secret into its stack's settings, unless an earlier call has and it lives on.

    Raises StoreError or RefusedError where the container could not live by it.
    """
    assert record.container is not None
    settings = refuse_store(context, record.bucket)
    config = reader.partly_at(folder.config, record.environment, "rescue_minutes", "gpu", "gpu_count")
    lease = record.hours * 3600 + config.rescue_minutes * 60
    now = time.time()
    if record.container.until is not None and record.container.until >= now + lease:
        return
    with context.ui.stage("bundle", f"what the container is made of, to {settings.url}"):
        _put(context, record, folder, settings, int(lease + BOOT_SLACK), config.gpu_count if config.gpu else 0)
    until = record.container.until or 0.0
    if until < now + lease:
        raise StoreError(
            f"the store's keys end at {format_time(until)}, before the lease of {record.id} would: what is signed with them dies with "
            "them, and nobody reaches a container without SSH; nothing was rented",
            hint="Use keys that do not end, or a shorter lease (--hours).",
        )  # fmt: skip


def longer_links(context: CommandContext, record: RunRecord, folder: RunFolder, end: float) -> dict[str, Any]:
    """Return what a container goes on with when its lease was moved to an end (epoch seconds), and know of it. Raises StoreError."""
    settings, where = refuse_store(context, record.bucket), ResultKey(record.user, record.label, record.attempt)
    pod, said = ReachablePod("", "", WORKSPACE, None, context.cloud_of(record)), declared_of(folder)
    order = replace(alone.order_for(where, alone.secret_for(settings, record, folder), record, pod, said), silence=0.0)
    plan, until = open_plan(settings, order, end, max(1, int(said.needs.get("disk_gb") or 0)) * 10**9)
    assert record.container is not None
    record.container = replace(record.container, until=until)
    folder.save(record)
    return {"links": live.open_links(settings, where, int(max(60.0, until - time.time()))), "plan": plan, "until": until}


@dataclass(slots=True)
class _Steps:
    """Orders that a container's fetcher carries out before its job starts."""

    settings: StoreSettings
    seconds: int
    steps: list[dict[str, Any]] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)

    def add(self, what: str, store: StoreSettings | None, targets: Sequence[PodTarget], below: str) -> Mapping[str, str]:
        """Add one; what its files hash to is not known before the container has read them."""
        name, program = f"steps/{len(self.steps)}", pod_program("fetch")
        signer = replace(store, urls_until=time.time() + self.seconds) if store else None
        order = encode_order(signer, f"{WORKSPACE}/{below}", targets, most=self.seconds)
        self.bodies[name] = program.source + order
        unread = [number for number, target in enumerate(targets) if target.sha256 is None]
        files = [target.path for target in targets]
        self.steps.append({"what": what, "command": program.command("fetch"), "stdin": name, "files": files, "unread": unread})
        return {}

    def send(self, below: str, files: tuple[StoredFile, ...]) -> None:
        """Add files of the run's own bucket."""
        if any(file.source.startswith("/") for file in files):
            raise RefusedError("what it goes on from lies on this machine alone, and the container reads nothing but the bucket")
        self.add("checkpoint", self.settings, [target_of(file.entry, file.source, file.path) for file in files], below)


def _put(context: CommandContext, record: RunRecord, folder: RunFolder, settings: StoreSettings, seconds: int, gpus: int) -> None:
    where = ResultKey(record.user, record.label, record.attempt)
    secret, said = alone.secret_for(settings, record, folder), declared_of(folder)
    pod = ReachablePod("", "", WORKSPACE, None, context.cloud_of(record))
    steps = _Steps(settings, seconds)
    restore.restore_by(context, record, folder, settings, steps.send, lambda _: None)
    inputs.bring_by(context, record, folder, steps.add)
    order = replace(alone.order_for(where, secret, record, pod, said), silence=0.0)
    disk = max(1, int(said.needs.get("disk_gb") or 0)) * 10**9
    plan, until = open_plan(settings, order, time.time() + seconds, disk)
    env = start.variables(context, record, folder, pod, said)
    job = env["job_env"] | jobkeys.issue(context, record, folder) | restore.job_env(record, pod)
    secrets = {name: value for name, value in job.items() if isinstance(value, Secret)}
    command = f"cd {quote(pod.path('run'))} || exit 1\nsh run.sh"
    programs = job_programs(command, {name: value for name, value in job.items() if name not in secrets}, record.pod_env)
    links = live.open_links(settings, where, seconds)
    document = {
        "links": links, "plan": plan, "until": until, "steps": steps.steps, "files": _FILES, "definite": [*DEFINITE, "NoSpace", "Disk"],
        "folders": ["run", "input", "output", "output/checkpoints"], "reports": [*REPORTS, STATUS],
        "job": {name: getattr(programs, name) for name in ("start", "script", "status", "stop")},
        "needs": {"disk_gb": env["min_disk_gb"], "gpu_count": gpus},
    }  # fmt: skip
    body = _pack(folder.bundle, document, steps.bodies, without_code=record.code is not None and record.code.stored is not None)
    live.remove(settings, where)
    live.put_orders(settings, where, secret, {})
    sha256, url = live.put_bundle(settings, where, body, seconds)
    known = {"bundle": url, "status": links["status"]["put"], "secret": secret}
    of_job = {name: value.reveal() for name, value in secrets.items()}
    _remember(context, record, folder, sha256, json.dumps({**known, "job": of_job}))
    assert record.container is not None
    record.container = replace(record.container, bundle=sha256, until=until)
    record.commits_alone = True
    folder.save(record)


def _remember(context: CommandContext, record: RunRecord, folder: RunFolder, sha256: str, secrets: str) -> None:
    """Write into the settings of the run's stack what its create request says, secrets encrypted."""
    document = yamlfile.load_map(folder.config)
    config = document["config"]
    assert isinstance(config, dict)
    hidden = facade.encrypter(context.stack(record.environment)).encrypt(secrets)
    config |= {f"{PROJECT}:container_bundle": sha256, f"{PROJECT}:container_secrets": {"secure": hidden}}
    write_atomic(folder.config, yamlfile.dump(document), durable=True)


def _pack(bundle: Path, order: Mapping[str, Any], bodies: Mapping[str, bytes], *, without_code: bool) -> bytes:
    """Return the bundle: programs, the order, what each step reads, the recipe's own files."""
    packed = io.BytesIO()
    programs = {f"programs/{name.replace('.', '/')}.py": text for name, text in pod_program("contain").modules}
    packages = {"programs/trainyard/__init__.py": b"", "programs/trainyard/pod/__init__.py": b""}
    own = {"hidden.json": json.dumps(list(KEYS)).encode(), "order.json": json.dumps(order).encode()}
    files = {**packages, **programs, "programs/trainyard/pod/watchdog.py": watchdog_source().encode(), **own, **bodies}
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, compresslevel=6) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, body in files.items():
            item = tarfile.TarInfo(name)
            item.size, item.mode = len(body), 0o644
            tar.addfile(item, io.BytesIO(body))
        for path in sorted(bundle.rglob("*")):
            name = path.relative_to(bundle).as_posix()
            if not (without_code and name.startswith("code/")):
                tar.add(path, f"run/{name}", recursive=False)
    return packed.getvalue()
