"""Replicate, emulated from its specification: trainings and predictions of a model that is Trainyard's own wrapper."""

from trainyard.rehearsal.replicate.emulated import REPLICATE

__all__ = ["REPLICATE"]
