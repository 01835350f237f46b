"""Every resource type of the package."""

from __future__ import annotations

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.provider.bucket import BUCKET
from trainyard.provider.endpoint import ENDPOINT
from trainyard.provider.handler import ResourceHandler
from trainyard.provider.lease import LEASE
from trainyard.provider.lifecycle import BUCKET_LIFECYCLE
from trainyard.provider.pod import POD
from trainyard.provider.sshkey import SSH_KEY

HANDLERS: tuple[ResourceHandler, ...] = (LEASE, POD, ENDPOINT, BUCKET, BUCKET_LIFECYCLE, SSH_KEY)


def handler_for(urn: str) -> ResourceHandler:
    """Return the handler of a resource's type; raises UserError for a type that this package does not have."""
    token = urn.split("::")[2].rpartition("$")[2]
    for handler in HANDLERS:
        if handler.token == token:
            return handler
    names = [handler.token for handler in HANDLERS]
    raise UserError(f"there is no resource type '{token}'{suggest(token, names)}")
