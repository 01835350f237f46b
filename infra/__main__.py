"""What exists: an environment, or (with the setting ``trainyard:run``) the pod of one attempt of a run."""

from trainyard.program import compose

compose()
