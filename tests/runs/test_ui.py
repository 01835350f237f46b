"""What a person reads of an engine's events."""

from __future__ import annotations

import io

from trainyard.runs.ui import Ui

URN = "urn:pulumi:local::trainyard::trainyard:components:Environment$trainyard:components:Results$trainyard:index:Bucket::results"
COMMAND = "urn:pulumi:local::trainyard::command:local:Command::pod"


def read(**event: str) -> str:
    screen = io.StringIO()
    Ui(stream=screen).engine_event({"event": "diagnostic", **event})
    return screen.getvalue()


def test_what_a_resource_of_ours_has_to_say_is_read_and_other_words_of_an_engine_are_not() -> None:
    stays = "bucket b stays, with 3 objects (1.0 kB); up adopts it again"
    assert read(severity="info", message=stays, urn=URN) == f"           {stays}\n"
    assert read(severity="warning", message="odd", urn=URN) == "warning: Bucket results: odd\n"
    assert read(severity="info", message="works since 20 s", urn="") == read(severity="info", message="a line", urn=COMMAND) == ""
