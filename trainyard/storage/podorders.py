"""Let a program on a pod carry out an order, and hear what it says. Knows nothing of what it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainyard.jsontext import parse_json
from trainyard.pod.podprogram import Verb, pod_program
from trainyard.remote.protocol import CommandResult, Transport

NO_PYTHON = 127
"""What a shell ends with that finds no python3."""
Event = Mapping[str, Any]


def carry_out(transport: Transport, verb: Verb, order: bytes, on_event: Callable[[Event], None] | None = None) -> CommandResult:
    """Run the program of a verb, which travels with its order; ``on_event`` hears each event that it tells as it comes."""
    program, rest = pod_program(verb), b""

    def hear(piece: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            event = _event(line)
            if event is not None and on_event is not None:
                on_event(event)

    return transport.exec(program.command(verb), program.source + order, on_stdout=hear if on_event else None)


def _event(line: bytes) -> Event | None:
    try:
        event = parse_json(line)
    except ValueError:
        event = None
    return event if isinstance(event, dict) else None  # else it is a banner of the pod's shell, not ours
