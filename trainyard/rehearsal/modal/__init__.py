"""Modal, as the kit plays it: its gRPC in front of the kit's server."""

from trainyard.rehearsal.modal.emulated import MODAL

__all__ = ["MODAL"]
