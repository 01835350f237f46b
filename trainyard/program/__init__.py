"""The Pulumi program of a checkout: ``infra/__main__.py`` is ``compose()`` and whatever else its owner declares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pulumi

from trainyard.program.environment import Environment, read_key
from trainyard.program.pod import LeasedPod, LeasedPodArgs
from trainyard.program.settings import NAMESPACE, RunSettings, environment_settings, is_run, run_settings
from trainyard.settings.ofcloud import pods_of_a_run
from trainyard.settings.table import StackSettings


def compose() -> None:
    """Declare the resources of the stack that is being worked on and export what the verbs read.

    An environment, or (with the setting ``trainyard:run``) the pods of one attempt of a run. Raises RunError for
    settings that are wrong, before anything is declared.
    """
    stack = pulumi.get_stack()
    if is_run():
        _run(stack)
        return
    if "." in stack:
        raise pulumi.RunError(
            f"stack '{stack}' looks like a run's, but its settings have no {NAMESPACE}:run. A run's settings lie in "
            f".trainyard/runs/<user>/<label>/<attempt>/config.yaml: give that file with --config-file, or use invoke."
        )
    for key, value in Environment("environment", environment_settings(stack)).outputs.items():
        pulumi.export(key, value)


def _run(stack: str) -> None:
    settings = run_settings(stack)
    count = pods_of_a_run(settings.pod)
    # Each pod keeps its part of the budget by itself.
    own = settings.pod if settings.pod.budget is None else replace(settings.pod, budget=settings.pod.budget / count)
    first = _pod("pod", settings, own)
    # A peer writes next to nothing: whether the training stalls is seen on the first.
    peers = [_pod(f"pod-{number}", settings, replace(own, stall_minutes=0.0, idle_minutes=0.0)) for number in range(1, count)]
    for key, value in first.outputs.items():
        pulumi.export(key, value)
    if peers:
        pulumi.export("peers", [peer.outputs for peer in peers])


def _pod(name: str, settings: RunSettings, own: StackSettings) -> LeasedPod:
    keys = settings.keys
    return LeasedPod(
        name,
        LeasedPodArgs(
            settings=own,
            fence_id=keys.fence_id,
            public_key=keys.ssh_public_key,
            private_key=read_key(Path(keys.ssh_key_file)),
            host_key_seed=pulumi.Output.secret(keys.host_key_seed),
            bucket=keys.fence_bucket,
            store=keys.fence_store,
            renew=False,
            container_bundle=keys.container_bundle,
            container_secrets=pulumi.Output.secret(keys.container_secrets) if keys.container_secrets else None,
        ),
    )
