"""Notices about runs: who is told, what waits to be sent, and how it is sent. Nothing of it delays or fails a run."""
