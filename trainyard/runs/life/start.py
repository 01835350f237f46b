"""From a reachable pod to a started training: run playbooks/train.yml on it. Running it twice starts one job."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from trainyard import playbook
from trainyard.clouds.volume import file_store, volume_env
from trainyard.errors import HostKeyChanged, TrainyardError, Unreachable
from trainyard.playbook import Host, Playbook, Report, TextReporter
from trainyard.recipes.declaration import Declaration
from trainyard.recipes.venvs import for_local_pods
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transfer import put_bytes
from trainyard.retries import LINK
from trainyard.runs.context import CommandContext
from trainyard.runs.life import alone, inputs, jobkeys, restore
from trainyard.runs.life.group import env_of
from trainyard.runs.life.heartbeat import beating, tell_budget
from trainyard.runs.life.judge import declared_of
from trainyard.runs.planning.consent import secret_values
from trainyard.runs.records.onpod import RUN_FILE, pod_copy
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.signals import leave_if_asked
from trainyard.settings.clouds import entry

_TRIES = 8
"""How often a lost link is made anew: half a minute in all, beside what each try itself waits for an answer."""


class Unclear(TrainyardError):
    """The start of the job was sent, and whether it runs was not told."""

    exit_code = Unreachable.exit_code


def start(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, number: int = 0) -> None:
    """Prove the pod, put bundle and data on it with their hashes, start the job; ``number``: which of those that train together.

    A lost link is waited for a while, unless the cloud says that nothing runs there any more, and all of it done once more: what was
    done already is left as it is.

    Raises PodFailed with the task that failed, Unreachable when the link does not come back, Unclear when it was lost
    too late to know whether the job runs.
    """
    leave_if_asked(context.ui.leaves)
    book = playbook.load(folder.playbooks / "train.yml")
    arguments = variables(context, record, folder, pod, declared_of(folder))
    arguments["job_env"] |= env_of(record, number) | ({} if number else jobkeys.issue(context, record, folder))
    with context.ui.stage("start", "pre-flight, bundle, job"):
        for attempt in range(1, _TRIES + 1):
            try:
                report = _play(context, record, folder, pod, book, arguments, number)
                break
            except Unreachable as error:
                if attempt == _TRIES or isinstance(error, HostKeyChanged) or pod.over() is not None:
                    raise
                context.ui.warn(f"{error.message}; what starts the training is done once more")
                time.sleep(LINK.pause(attempt))
    if not number:
        tell_of_watchdog(context, record, report.facts["pod"].get("watchdog"))


def _play(
    context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, book: Playbook, arguments: dict[str, Any], number: int
) -> Report:  # fmt: skip
    """Run the playbook over one connection; see ``start``."""
    with (folder.path / "playbook.log").open("a", encoding="utf-8") as log, pod.connect() as transport, beating(pod):
        if not number:  # whoever finds another pod of the run has nothing to go on with, and that one commits nothing
            put_bytes(transport, pod.path(*RUN_FILE), pod_copy(record))
            alone.claim(context, record, folder, pod, transport)
        tell_budget(transport, record, pod)
        reporter = TextReporter(lambda text: print(text, file=log, flush=True))
        if inputs.from_buckets(record) or record.resumed_from or record.init_from:
            # A pod that can do no work fetches nothing: what is looked at first is looked at once more with the rest.
            playbook.run(book, {"pod": Host(transport, {})}, arguments, tags=["preflight"], reporter=reporter).raise_for_failure()
            with Reconnecting(pod.connect_sender) as patient:
                restore.restore(context, record, folder, pod, patient)
                inputs.bring(context, record, folder, pod, patient)
            arguments["job_env"] |= restore.job_env(record, pod)
        report = playbook.run(book, {"pod": Host(transport, {})}, arguments, reporter=reporter)
        if report.exit_code == Unreachable.exit_code and "job" in report.facts.get("pod", {}):
            raise Unclear(report.reason())
        report.raise_for_failure()
    return report


def tell_of_watchdog(context: CommandContext, record: RunRecord, watchdog: object) -> None:
    """Say and keep whether the pod can be ended from inside: its watchdog has asked the cloud with the pod's own key."""
    status = watchdog if isinstance(watchdog, dict) else {}
    proven, why = status.get("key_sees_pod") is True, str(status.get("proof") or "its watchdog does not say")
    row = entry(record.cloud)
    able = context.cloud_of(record).capabilities
    if status.get("self_terminate") is False and row is not None and (able.deadline or (able.self_terminate and not able.ssh)):
        who = f"{row.title} itself ends it at its lease's end" if able.deadline else "it ends with its command, by its lease's end"
        record.pod = replace(record.pod, ends_itself_proof=who)
        return
    record.pod = replace(record.pod, ends_itself=proven, ends_itself_proof=why)
    if not proven:
        blind = "" if status.get("self_terminate") is False else "its watchdog's own key does not reach it: "
        context.ui.warn(
            f"only from outside can pod {record.pod.pod_id} be ended ({blind}{why}).\n"
            f"Its lease is over at {record.pod.end}: leave this running, or run then: invoke reap --stack {record.environment}"
        )


def variables(context: CommandContext, record: RunRecord, folder: RunFolder, pod: ReachablePod, said: Declaration) -> dict[str, Any]:
    """Return what train.yml is told (playbooks/train.yml names them)."""
    files = record.data.files if record.data.kind in ("file", "folder") and record.data.stored is None else ()
    local = record.environment == "local" or pod.cloud.name == "local"
    return {
        "workspace": pod.workspace,
        "bundle_dir": str(folder.bundle),
        "bundle_sha256": record.bundle_sha256,
        "file_store": file_store(record.pod.volume_path) if record.pod.volume_path else "",
        "data": [{"src": item.src, "dest": item.dest, "sha256": item.sha256} for item in files],
        "job_env": job_env(context, pod, record.pod.volume_path, local=local, packages=bool(said.locks))
        | secret_values(record.pod_secrets, context.env),
        "job_keeps": record.pod_env,
        # A disk of 100 GB has less than that free: its file system takes some.
        "min_disk_gb": 0.9 * (said.needs.get("disk_gb") or 1),
        "gpu_count": record.pod.gpu_count or 0,
        "lease_end": record.pod.end,
        "python_needed": bool(said.locks),
        "expect_watchdog": True,
    }


def job_env(context: CommandContext, pod: ReachablePod, volume: str | None, *, local: bool, packages: bool = False) -> dict[str, str]:
    """Return the training's environment beside what run.sh sets by itself; caches lie on the pod's network volume if it has one.

    ``packages``: it may have to install some.
    """
    env = {"WORKSPACE": pod.workspace, "INPUT_DIR": pod.path("input"), "OUTPUT_DIR": pod.path("output"), "HF_HOME": pod.path(".cache")}
    env |= volume_env(volume) if volume else {}
    if local or pod.cloud.simulated:
        env |= for_local_pods(context.env) if packages else {}
        env["TRAINYARD_ENVS"] = context.env.get("TRAINYARD_ENVS") or str(context.places.cloud / "envs")
    if pod.cloud.simulated:
        env["TRAINYARD_LOCK"] = "cpu"  # an emulator's GPUs are only told
    return env
