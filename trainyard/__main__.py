"""``python -m trainyard VERB``: the command ``trainyard``."""

from trainyard.cli.commandline import trainyard

trainyard()
