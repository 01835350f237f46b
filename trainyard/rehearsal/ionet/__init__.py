"""io.net, emulated from its specification: its containers and its machines."""

from trainyard.rehearsal.ionet.emulated import CONTAINERS, MACHINES

__all__ = ["CONTAINERS", "MACHINES"]
