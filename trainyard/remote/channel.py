"""One command's bytes over a channel of paramiko's: its input, its two streams, what its login shell ended with."""

from __future__ import annotations

import contextlib
import select
import threading
import time

import paramiko
from paramiko.common import cMSG_CHANNEL_CLOSE, cMSG_CHANNEL_REQUEST, cMSG_CHANNEL_WINDOW_ADJUST

from trainyard.remote.frame import Frame
from trainyard.remote.protocol import Stdin

WINDOW = 2 * 1024 * 1024
"""Bytes that a server may send before it is told to go on, where the link has no length: more only waits here, and before that in a
TCP window that is full, from which the sender recovers by timers (24 MiB: 200 MB over loopback took 2.5 s, of which 0.4 s are needed)."""
MOST_WINDOW = 48 * 1024 * 1024
"""The same at most; as much may lie in memory when the output is taken slowly."""
FASTEST = 400e6
"""Bytes a second that a long link may carry: what one core decrypts."""
SLICE = 128 * 1024
"""Largest piece given to paramiko at once: it copies the rest of the buffer for every packet (100 MiB at once: 1 MB/s)."""
PIECE = 2 * 1024 * 1024
"""Largest piece taken from paramiko at once: it moves what waits behind it, up to a whole window (128 KiB at once: 4 times the CPU)."""
INLINE = 16 * 1024
"""Input up to here is sent before anything is read; every server's first window takes it (dropbear's is 24 KiB)."""
WAKE = 100
"""Longest wait (ms) for a wake-up before looking again."""
LINGER = 1.0
"""Seconds to wait for the end of stderr once the exit code has come: something between may swallow it."""
BEGUN = 120.0
"""Seconds in which a command must have begun: its mark comes first of all, so a login that is silent runs something else."""
LOST = (EOFError, OSError, paramiko.SSHException)
"""What paramiko raises when the link is lost, or never was."""


class OrderlyChannel(paramiko.Channel):  # type: ignore[misc]
    """A channel on whose wire nothing follows the message that closes it: a server ends the whole connection for that.

    paramiko answers the server's close from its own thread at once, while a thread that sends has been let through and is
    still on its way. Here the answer is sent by whoever used the channel, when nobody sends any more.
    """

    _answer_due = False

    def begin(self, line: bytes, round_trip: float) -> None:
        """Ask for a command, with a window as wide as the link is long; input may follow at once, the answer is not waited for."""
        more = round(min(FASTEST * round_trip, MOST_WINDOW)) - self.in_window_size
        if more > 0:
            self._set_window(self.in_window_size + more, self.in_max_packet_size)
            adjust = self._message(cMSG_CHANNEL_WINDOW_ADJUST)
            adjust.add_int(more)
            self.transport._send_user_message(adjust)
        request = self._message(cMSG_CHANNEL_REQUEST)
        request.add_string("exec")
        request.add_boolean(True)
        request.add_string(line)
        self.transport._send_user_message(request)

    def _message(self, kind: bytes) -> paramiko.Message:
        message = paramiko.Message()
        message.add_byte(kind)
        message.add_int(self.remote_chanid)
        return message

    def _close_internal(self) -> tuple[None, None]:
        """Called with the lock held when the server has closed it; what is returned would be sent at once."""
        if self.active and not self.closed:
            self._set_closed()
            self._answer_due = True
        return None, None

    def end(self, feeder: threading.Thread | None, patience: float) -> None:
        """Close it on this side: senders are stopped and waited for, ``patience`` seconds at most."""
        with self.lock:
            due = self._answer_due or not self.closed  # else the link is lost, or it was closed before anybody used it
            self._answer_due = False
            self._set_closed()
        if feeder:
            feeder.join(patience)
        if due:
            with contextlib.suppress(*LOST):
                self.transport._send_user_message(self._message(cMSG_CHANNEL_CLOSE))
        self.close()  # what is left of it: its pipe


def orderly(channel: paramiko.Channel) -> OrderlyChannel:
    """Make a fresh channel one of ours; paramiko makes none of another class."""
    channel.__class__ = OrderlyChannel
    assert isinstance(channel, OrderlyChannel)
    return channel


def feed(channel: paramiko.Channel, stdin: Stdin) -> threading.Thread | None:
    """Send the input: at once when it fits the server's window, else from a thread of its own."""
    if stdin is None or (isinstance(stdin, bytes) and len(stdin) <= INLINE):
        _send(channel, stdin or b"")
        return None
    thread = threading.Thread(target=_send, args=(channel, stdin), daemon=True)
    thread.start()
    return thread


def _send(channel: paramiko.Channel, stdin: Stdin) -> None:
    # A command may end before it has read everything; its exit status then tells the story.
    with contextlib.suppress(*LOST):
        if isinstance(stdin, bytes):
            view = memoryview(stdin)
            for start in range(0, len(view), SLICE):
                channel.sendall(view[start : start + SLICE])
        elif stdin is not None:
            while piece := stdin.read(SLICE):
                channel.sendall(piece)
        channel.shutdown_write()


def read(channel: paramiko.Channel, frame: Frame, deadline: float | None) -> bool:
    """Read both streams to the end of the command; return False at the deadline. Raises NotRun when it does not begin.

    What a command leaves running in the background may hold the channel open: its frame's end is the end.
    """
    begin_by = time.monotonic() + BEGUN
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    told_until: float | None = None
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return frame.complete
        ended = channel.eof_received or channel.closed
        while channel.recv_ready():
            frame.out(channel.recv(PIECE))
        while channel.recv_stderr_ready():
            frame.err(channel.recv_stderr(PIECE))
        if frame.whole:
            return True
        if not frame.begun and not ended and time.monotonic() > begin_by:
            raise frame.silent(BEGUN)
        if ended:
            return frame.complete or bool(channel.status_event.wait(left))
        if frame.complete:
            told_until = told_until or time.monotonic() + LINGER
            if time.monotonic() > told_until:
                return True
        # Never for long: paramiko can lose the wake-up when both streams are busy (its two events share one pipe).
        poll.poll(WAKE if left is None else min(WAKE, left * 1000 + 1))


def status(channel: paramiko.Channel) -> int | None:
    """Return what the login shell ended with, None when the link was lost before it told."""
    code: int = channel.recv_exit_status()
    return None if code == -1 else code
