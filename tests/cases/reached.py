"""Run a case on hosts that are reached by SSH: a real server on a loopback port, whose sessions have the case's HOME."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cases import ours, peer
from tests.cases.golden import Course, Place
from tests.remote import sshd
from trainyard.remote.transport import dial


def ours_by_ssh(place: Place) -> Course:
    """Run a case once by Trainyard."""
    with _server(place) as server:
        return ours.run(place, lambda: dial(server.address))


def ansible_by_ssh(place: Place) -> Course:
    """Run a case once by ansible-core."""
    with _server(place) as server:
        address = server.address
        return peer.run(
            place,
            {
                "ansible_connection": "ssh", "ansible_host": address.host, "ansible_port": address.port, "ansible_user": address.user,
                "ansible_ssh_private_key_file": str(address.key_file),
                "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no",
                # Not below HOME, which is compared.
                "ansible_control_path_dir": str(place.folder.with_name("cp")),
            },
        )  # fmt: skip


@contextmanager
def _server(place: Place) -> Iterator[sshd.Server]:
    server = sshd.start(place.folder.with_name("sshd"), home=place.tmp / "home")
    try:
        yield server
    finally:
        server.stop()
