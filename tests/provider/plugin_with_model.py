"""The real plugin, with the model cloud where ``open_cloud`` would give a real one: ``python plugin_with_model.py ROOT ENGINE``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from trainyard.engine import stubs

stubs.protocol_only()

from tests.leases.model_cloud import PLAIN, ModelCloud  # noqa: E402
from trainyard import clouds  # noqa: E402
from trainyard.provider import main  # noqa: E402

QUICK = replace(PLAIN, settle=0.3, post_timeout=1.0)

root = Path(sys.argv[1])
clouds.open_cloud = lambda name, env, places: ModelCloud(root, capabilities=QUICK)
main.main(sys.argv[2:])
