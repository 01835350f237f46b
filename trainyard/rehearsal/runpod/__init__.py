"""A rehearsal of RunPod: its API as the official specification and recorded behaviours say, in front of real local pods."""

from trainyard.rehearsal.runpod.books import Paid, paid_twice, read_books
from trainyard.rehearsal.runpod.emulator import Emulator, refuse_beside_the_real, start, switch
from trainyard.rehearsal.runpod.faults import TABLE as FAULTS
from trainyard.rehearsal.runpod.fleet import Timing

__all__ = ["FAULTS", "Emulator", "Paid", "Timing", "paid_twice", "read_books", "refuse_beside_the_real", "start", "switch"]
