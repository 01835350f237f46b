"""What a play tells and leaves when the links to its hosts are lost at random instants."""

from __future__ import annotations

from tests.faults.links import rounds
from tests.remote import sshd
from tests.remote.conftest import server  # noqa: F401 (a fixture)


def test_a_play_whose_links_are_lost_tells_no_lie_and_does_nothing_twice(server: sshd.Server) -> None:  # noqa: F811
    shown: list[str] = []
    wrong, figures = rounds(server.address, 5, 1, shown.append)
    assert not wrong and figures["troubles"], shown
