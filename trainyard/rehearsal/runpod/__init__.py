"""A rehearsal of RunPod: its API as the official specification and recorded behaviours say, in front of real local pods."""

from trainyard.rehearsal.runpod.emulator import Emulator, refuse_beside_the_real, start
from trainyard.rehearsal.runpod.faults import TABLE as FAULTS
from trainyard.rehearsal.runpod.fleet import Timing
from trainyard.rehearsal.runpod.ledger import Paid, read_ledger

__all__ = ["FAULTS", "Emulator", "Paid", "Timing", "read_ledger", "refuse_beside_the_real", "start"]
