"""Sweeps: one command, many runs whose values differ; the trials are ordinary runs that come through the queue."""
