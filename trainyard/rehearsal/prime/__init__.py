"""An emulator of Prime Intellect's Compute API, made from its specification."""

from trainyard.rehearsal.prime.emulated import PRIME

__all__ = ["PRIME"]
