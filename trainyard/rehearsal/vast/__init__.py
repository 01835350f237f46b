"""Vast.ai, emulated from its specification and recorded behaviour."""

from trainyard.rehearsal.vast.emulated import VAST

__all__ = ["VAST"]
