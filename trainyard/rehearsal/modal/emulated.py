"""Modal as the kit takes it: its words, what it puts into a sandbox, its own traps. Needs no SDK until it is started."""

from __future__ import annotations

from trainyard.clouds.modal.prices import rate_of
from trainyard.clouds.modal.request import pod_info
from trainyard.errors import UserError
from trainyard.rehearsal.kit import (
    FAULTS,
    Container,
    EmulatedCloud,
    ErrorAnswer,
    Fleet,
    Front,
    GpuFacts,
    Machines,
    PodFields,
    PodRecord,
    Reply,
    reply,
)
from trainyard.rehearsal.modal.routes import ROUTES, new_id, show

_CODES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS",
          429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE"}  # fmt: skip
TRAPS = (
    reply("image-fails", "image", "the image cannot be fetched", status=200,
          body={"image_id": "im-0", "result": {"status": "GENERIC_STATUS_FAILURE", "exception": "manifest unknown"}}),
)  # fmt: skip
"""What only Modal does."""
CANNOT_HAPPEN = ("create-dearer",)
"""No answer tells a price."""


def client_env(address: str, key: str) -> dict[str, str]:
    """Return the variables that lead the SDK's client here."""
    return {
        "MODAL_TOKEN_ID": f"ak-{key[-12:]}", "MODAL_TOKEN_SECRET": key, "MODAL_SERVER_URL": address, "MODAL_SETTLE_SECONDS": "2",
        "MODAL_POST_SECONDS": "20",
    }  # fmt: skip


def container(machines: Machines, record: PodRecord) -> Container:
    """Return what Modal puts into a sandbox: its secrets as variables, and the command that it is."""
    request = record["request"]
    rate = rate_of(request["gpu"])
    return Container(
        env=request["env"],
        job=tuple(request["command"]),
        gpu=GpuFacts(f"NVIDIA {rate.id.partition('-')[0]}", rate.vram_gb, request["count"]) if rate else None,
    )


def open_front(fleet: Fleet, behind: str, port: int) -> Front:
    """Start the gRPC server; raises UserError without the SDK's package, which brings the protocol."""
    try:
        from trainyard.rehearsal.modal.gateway import Gateway
    except ModuleNotFoundError as error:
        hint = "pip install 'trainyard[modal]'"
        raise UserError(f"a rehearsal of Modal needs the package '{error.name}', which this Python does not have", hint=hint) from None
    return Gateway(fleet, behind, port)


MODAL = EmulatedCloud(
    name="modal",
    title="Modal",
    real=("modal.com", "modal2.com"),
    addresses=("MODAL_SERVER_URL",),
    client_env=client_env,
    routes=ROUTES,
    error_reply=lambda answer: Reply(answer.status, {"code": answer.code or _CODES.get(answer.status, "UNKNOWN"), "detail": answer.detail}),
    refusals={
        "no capacity": ErrorAnswer(429, "Insufficient capacity to create sandbox.", "RESOURCE_EXHAUSTED"),
        "rule broken": ErrorAnswer(400, "Invalid resources", "INVALID_ARGUMENT"),
        "no balance": ErrorAnswer(403, "Workspace has reached its spend limit", "PERMISSION_DENIED"),
        "forbidden": ErrorAnswer(403, "Permission denied", "PERMISSION_DENIED"),
        "unauthorized": ErrorAnswer(401, "Token validation failed", "UNAUTHENTICATED"),
        "not found": ErrorAnswer(404, "Sandbox not found", "NOT_FOUND"),
    },
    show=show,
    read=lambda shown: pod_info(shown["id"], shown["tags"], "unknown", shown["status"]),
    fields=PodFields(listing="sandboxes", created="created_at", env="tags", may_be_null=()),
    deleted=(200, {}),
    container=container,
    starts_images=True,
    new_id=new_id,
    key_prefix="as-",
    faults=(*(fault for fault in FAULTS if fault.name not in CANNOT_HAPPEN), *TRAPS),
    front=open_front,
    forgets_ended=True,
    hidden=("MODAL_",),
)
