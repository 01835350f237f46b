"""Which tasks are looked at before their turn, and what is known by then."""

from __future__ import annotations

from collections.abc import Sequence

from trainyard.playbook.ahead import HostOutlook
from trainyard.playbook.attempt import HostState, PlayOptions, scene_of
from trainyard.playbook.model import Node, Play
from trainyard.remote.transport import LocalTransport

_OF_OTHERS = ("hostvars", "vars", "ansible_play_hosts", "ansible_play_batch", "play_hosts")
"""Variables that what becomes of other hosts may change."""


def look_ahead(nodes: Sequence[Node], hosts: Sequence[HostState], play: Play, settings: PlayOptions, forks: int) -> None:
    """Send what the next tasks of hosts ask and what needs no answer of the others', before they have their turn.

    Of several hosts each has done a task before any begins with the next, which others may see: only what reads is sent before its turn,
    unless the play's strategy lets each go on by itself. This machine is asked at once: there is nothing to be saved, and its commands
    may make the files that the next task reads here.
    """
    several = len(hosts) > 1
    if several and (len(hosts) > forks or play.max_fail_percentage is not None):
        return
    for host in hosts:
        if not isinstance(host.transport.inner, LocalTransport):
            host.ahead.look(nodes, _outlook(host, settings, several=several, free=play.free))


def _outlook(host: HostState, settings: PlayOptions, *, several: bool, free: bool) -> HostOutlook:
    return HostOutlook(
        lambda task: host.variables(task, settings), lambda task, variables: scene_of(task, host, settings, variables),
        _OF_OTHERS if several else (), only_reads=several and not free,
    )  # fmt: skip
