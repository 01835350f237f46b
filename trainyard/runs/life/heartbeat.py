"""What the watchdog on a run's pod hears of its controller: that it lives, and what the money really comes to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from trainyard.errors import TrainyardError
from trainyard.jsontext import parse_json
from trainyard.remote.protocol import Transport, quote
from trainyard.remote.transfer import put_bytes
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.summary import cost

EVERY = 30.0
"""Seconds between two beats while no log is followed."""


def beat(transport: Transport, pod: ReachablePod) -> str:
    """Tell the watchdog that a controller lives; return why it has told a stalled job to stop, empty where it has not."""
    folder = quote(pod.path(".trainyard", "watchdog"))
    said = transport.exec(f"[ ! -d {folder} ] || {{ touch {folder}/heartbeat; cat {folder}/status.json; }}", timeout=10).stdout
    try:
        return stalled(parse_json(said) if said else {})
    except ValueError:
        return ""  # it is asked again


def stalled(status: Mapping[str, Any]) -> str:
    """Return why a watchdog has told a job to stop that has stalled, empty where it has not: that rule is the pod's alone to keep."""
    return str(status.get("reason")) if status.get("stalled") is True else ""


@contextmanager
def beating(pod: ReachablePod, *, at_once: bool = False) -> Iterator[None]:
    """Go on telling it while something long is done on the pod, or a person is: sending data may take hours."""
    done = threading.Event()

    def go_on() -> None:
        wait = 0.0 if at_once else EVERY
        while not done.wait(wait):
            wait = EVERY
            try:
                with pod.connect() as transport:
                    beat(transport, pod)
            except TrainyardError:
                continue  # whoever works on the pod meets the same trouble, and tells it

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def tell_budget(transport: Transport, record: RunRecord, pod: ReachablePod) -> None:
    """Tell the watchdog what is left of the budget, at the price that the pod really has; earlier pods of the run count."""
    price = record.per_hour
    if record.budget is None or not price:
        return
    message = {"budget": record.budget, "spent": cost(record), "price": price}  # as of now, by the pod's clock
    put_bytes(transport, pod.path(".trainyard", "watchdog", "budget.json"), json.dumps(message).encode())
