"""grpclib beside Pulumi in one process: both bring protobuf's message google.rpc.Status, and a process can have only one of them."""

from __future__ import annotations

from grpclib.encoding import proto


def settle() -> None:
    """Let grpclib do without the details of errors where another package has registered that message already; it asks once a process."""
    try:
        proto._googleapis_available()
    except TypeError:
        # Where its answer is kept (grpclib.utils._cached); "not installed" is an answer that it knows how to live with.
        proto._googleapis_available.__wrapped__.__result__ = False
