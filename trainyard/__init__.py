"""Trainyard: train on rented GPUs the way good engineers run infrastructure."""

__version__ = "0.1.0"
