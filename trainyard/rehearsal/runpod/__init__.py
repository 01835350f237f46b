"""A rehearsal of RunPod: its API as the official specification and recorded behaviours say."""

from trainyard.rehearsal.runpod.emulated import RUNPOD

__all__ = ["RUNPOD"]
