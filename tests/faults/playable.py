"""Which faults a cloud's emulator can play: one of a call that nobody makes there, or of a key that its pods have not, is none."""

from __future__ import annotations

from trainyard.rehearsal.emulators import emulator_of
from trainyard.rehearsal.kit import Fault
from trainyard.rehearsal.kit.faults import EVERY


def faults_of(cloud: str) -> list[Fault]:
    """Return what a cloud's emulator can be told to do, and ever does."""
    played = emulator_of(cloud)
    calls = {"", EVERY, *(route.call for route in played.routes)}
    return [fault for fault in played.faults if fault.on in calls and (fault.kind != "key" or played.pod_key("any"))]
