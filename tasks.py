"""The verbs of `invoke`: Trainyard's own, and beside them those of who works on Trainyard itself."""

from tests.verbs import development
from trainyard.cli.verbs import verbs

ns = verbs()
development(ns)
