"""Leases: intents, fences, sweeps and the creation of pods under them. Knows nothing of Pulumi."""
