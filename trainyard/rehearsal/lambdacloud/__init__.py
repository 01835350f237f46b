"""An emulator of Lambda Cloud, made from its specification."""

from trainyard.rehearsal.lambdacloud.emulated import LAMBDA

__all__ = ["LAMBDA"]
