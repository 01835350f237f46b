"""What a container and its controllers tell each other through the bucket."""

from __future__ import annotations

import json

from trainyard.pod.signed import mac_of
from trainyard.storage import live
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import ResultKey
from trainyard.storage.seal import put_proven

SECRET = "it is known to both"


def test_orders_are_numbered_on_when_those_before_are_lost(settings: StoreSettings) -> None:
    where = ResultKey("anna", "orders", 1)
    assert [live.put_orders(settings, where, SECRET, {"stop": {}}) for _ in range(2)] == [1, 2]
    said = {"phase": "training", "why": "", "time": 1.0, "orders": 2}
    put_proven(settings, live.key_of(where, live.STATUS), json.dumps({**said, "mac": mac_of(SECRET, said)}).encode())
    put_proven(settings, live.key_of(where, live.ORDERS), b"cut")

    assert live.put_orders(settings, where, SECRET, {"stop": {}}) == 3, "it has heard 1 and 2, and would not hear them again"
