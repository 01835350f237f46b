"""What goes over the wire of a channel that its server closes while a thread still sends."""

from __future__ import annotations

import threading

import paramiko
import pytest

from trainyard.remote.channel import INLINE, MOST_WINDOW, OrderlyChannel, feed, orderly

ADJUST, DATA, EOF, CLOSE, REQUEST = 93, 94, 96, 97, 98  # RFC 4254, section 9


class Wire:
    """A transport that keeps what is sent; data wait until they are let through."""

    active = True

    def __init__(self) -> None:
        self.sent = list[int]()
        self.under_way, self.through = threading.Event(), threading.Event()

    def _send_user_message(self, message: paramiko.Message) -> None:
        kind = message.asbytes()[0]
        if kind == DATA:
            self.under_way.set()
            assert self.through.wait(10)
        self.sent.append(kind)

    def _unlink_channel(self, _number: int) -> None:
        """It is known no more."""

    def _sanitize_packet_size(self, size: int) -> int:
        return size

    def get_log_channel(self) -> str:
        return "tests"


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def channel(wire: Wire) -> OrderlyChannel:
    made = paramiko.Channel(3)
    made._set_transport(wire)
    made._set_window(2**20, 2**15)
    made._set_remote_channel(3, 2**20, 2**15)
    return orderly(made)


@pytest.mark.parametrize("by_server", [True, False], ids=["the server closes it", "it is closed here"])
def test_what_is_being_sent_goes_before_the_close_whoever_closes_first(by_server: bool, channel: OrderlyChannel, wire: Wire) -> None:
    feeder = feed(channel, b"x" * (4 * INLINE))
    assert wire.under_way.wait(10)
    if by_server:
        paramiko.Channel._handle_close(channel, None)  # as paramiko's thread calls it
    assert wire.sent == []

    closer = threading.Thread(target=channel.end, args=(feeder, 10.0))
    closer.start()
    wire.through.set()
    closer.join(10)
    if not by_server:
        paramiko.Channel._handle_close(channel, None)
    channel.end(None, 0.0)
    channel.close()

    assert wire.sent == [DATA, CLOSE], "a server ends the whole connection for a message behind the close, or for two of them"


def test_what_was_closed_before_it_was_used_is_not_closed_again(wire: Wire) -> None:
    made = paramiko.Channel(3)
    made._set_transport(wire)
    made._set_remote_channel(3, 1, 1)
    made._handle_close(None)
    orderly(made).end(None, 0.0)
    assert wire.sent == [EOF, CLOSE]


@pytest.mark.parametrize(
    ("round_trip", "window"), [(0.001, 2**20), (0.08, 32_000_000), (3.0, MOST_WINDOW)], ids=["here", "far", "very far"]
)
def test_a_command_gets_a_window_as_wide_as_its_link_is_long(
    round_trip: float, window: int, channel: OrderlyChannel, wire: Wire
) -> None:  # fmt: skip
    channel.begin(b"true", round_trip)
    assert channel.in_window_size == window
    assert wire.sent == [ADJUST, REQUEST][window == 2**20 :]


def test_input_follows_its_command_without_waiting_for_an_answer(channel: OrderlyChannel, wire: Wire) -> None:
    wire.through.set()
    channel.begin(b"cat", 0.0)
    assert feed(channel, b"x") is None
    assert wire.sent == [REQUEST, DATA, EOF]
