"""What a cloud has of its own: its routes, its forms, its words, as data that the kit works on.

A folder beside this one makes one ``EmulatedCloud`` of it. Knows nothing of sockets, disks and machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import parse_qs

from trainyard.clouds.protocol import PodInfo
from trainyard.jsontext import parse_json
from trainyard.rehearsal.kit.faults import FAULTS, Fault
from trainyard.rehearsal.kit.ledger import PodRecord
from trainyard.settings.table import StackSettings

if TYPE_CHECKING:
    from trainyard.rehearsal.kit.alter import Change
    from trainyard.rehearsal.kit.emulator import Furnishing
    from trainyard.rehearsal.kit.fleet import Fleet
    from trainyard.rehearsal.kit.machines import Machines

Refusal = Literal["no capacity", "rule broken", "no balance", "forbidden", "unauthorized", "not found"]
"""What a cloud says no to, each in words and a status of its own."""
Pods = Literal["nothing", "own", "all"]
ACCOUNT = "account"
"""Who asks, where it is no pod with a key of its own."""


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error answer, before it is written in a cloud's form; ``code`` is the cloud's own word for it, where it has one."""

    status: int
    detail: str
    code: str = ""
    errors: tuple[str, ...] = ()


class HttpProblem(Exception):
    """A handler answers with an error."""

    def __init__(self, status: int, detail: str, code: str = "", errors: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.answer = ErrorAnswer(status, detail, code, tuple(errors))


@dataclass(frozen=True, slots=True)
class Request:
    """One request that has passed the door. ``who``: ``account``, or the id of the pod whose own key was used."""

    method: str
    path: str
    query: str
    body: bytes
    who: str
    ids: tuple[str, ...] = ()
    """What stood in the place of the route's stars."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in lower case."""

    @property
    def id(self) -> str:
        """The first of them: the id of what the request is about."""
        return self.ids[0]

    def param(self, name: str) -> str | None:
        """Return a query parameter."""
        return parse_qs(self.query).get(name, [None])[0]

    def json(self) -> Any:
        """Return the body; raises HttpProblem (400) for what is no JSON."""
        try:
            return parse_json(self.body or b"null")
        except ValueError:
            raise HttpProblem(400, "the body is no JSON") from None


@dataclass(slots=True)
class Reply:
    """One answer: ``body`` is sent as JSON, a text as it is; ``chunks`` are sent one by one, and then nothing until the client goes."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    chunks: Sequence[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One request that the API knows. ``path`` is whole, ``*`` stands for an id; ``pods``: what a pod's own key may ask of it.

    ``call`` is the word by which faults know it: ``create``, ``list``, ``get``, ``delete`` and ``catalog`` in every
    cloud, besides them whatever a cloud's own faults name.
    """

    method: str
    path: str
    call: str
    handle: Callable[[Fleet, Request], Reply]
    pods: Pods = "nothing"
    keyless: bool = False
    """Asked without any key: what lies in a store whose address is the secret."""


@dataclass(frozen=True, slots=True)
class PodFields:
    """Where things stand in a cloud's JSON; dots lead inside (``data.pods``), an empty name is what the cloud does not show.

    ``listing`` and ``single`` hold the pods of a list and the pod of an answer about one ("" where that is the answer).
    """

    listing: str
    single: str = ""
    id: str = "id"
    name: str = "name"
    status: str = "status"
    price: str = ""
    created: str = ""
    env: str = ""
    """An object of variables, where markers stand."""
    may_be_null: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """So many requests of one account in so many seconds.

    With ``call`` it is for one kind of request alone; it is then an interval that the cloud keeps without a word of when to
    come back, and ``error_reply`` gets its name as the error's code.
    """

    name: str
    seconds: float
    most: int
    call: str = ""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What ``nvidia-smi`` says in a pod."""

    name: str
    memory_gb: float
    count: int = 1
    cuda: tuple[int, int] = (13, 0)
    serial: str = "00000000-0000-0000-0000"
    """How their UUIDs begin."""


@dataclass(frozen=True, slots=True)
class Container:
    """What a cloud puts into one pod, asked for at each start of its container.

    With ``boot`` the pod is an image with an SSH server beside it: the command runs from its first second, and again
    after each exit. With ``job`` the pod is that command, and no SSH port is told: when it ends, the pod has exited with
    its code, or it is started again where ``restarts`` says so.
    """

    env: Mapping[str, str]
    public_key: str = ""
    host_key: str = ""
    """Private host key as OpenSSH PEM; empty: a fresh one, as images make at their first boot."""
    boot: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    restarts: bool = False
    gpu: GpuFacts | None = None
    volume: str | None = None
    """Folder of this machine that plays a network volume."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Laid out before it starts: paths begin with ``home/``, ``workspace/`` or ``bin/`` (first in PATH)."""


@dataclass(frozen=True, slots=True)
class OwnService:
    """A cloud whose own programs a rehearsal runs on this machine instead of playing it.

    ``serve`` takes a folder of its own and the stack's settings; while its block lasts, the settings that it gives lead there
    (None: that one is left out), with the variables beside them.
    """

    name: str
    title: str
    serve: Callable[[Path, StackSettings], AbstractContextManager[tuple[Mapping[str, object], Mapping[str, str]]]]
    pods: str = ""
    """Folder below its own that is a local cloud's: what its pods see of ready environments lies there; empty: they see this machine's."""


class Front(Protocol):
    """A server in front of the kit's, for clients that speak no HTTP with JSON: it passes each call on to the kit's own."""

    address: str
    """Where clients are told to ask."""
    port: int

    def close(self) -> None:
        """Stop answering."""
        ...


@dataclass(frozen=True, slots=True)
class EmulatedCloud:
    """One cloud for the kit."""

    name: str
    """Its name in the table of clouds."""
    title: str
    real: tuple[str, ...]
    """Hosts of the real cloud, with all below them: an emulator never starts beside one."""
    addresses: tuple[str, ...]
    """Variables that lead a client to an API."""
    client_env: Callable[[str, str], Mapping[str, str]]
    """Address and account key -> the variables that lead a client here."""
    routes: tuple[Route, ...]
    error_reply: Callable[[ErrorAnswer], Reply]
    """An error in the cloud's form."""
    refusals: Mapping[Refusal, ErrorAnswer]
    show: Callable[[Fleet, PodRecord], dict[str, Any]]
    """A pod as the API shows it."""
    fields: PodFields
    deleted: tuple[int, Any]
    """Status and body of the answer to a delete that was done."""
    container: Callable[[Machines, PodRecord], Container]
    new_id: Callable[[], str]
    pod_key: Callable[[str], str] = lambda pod_id: ""
    """The pod's own key, by its id; empty where the cloud gives it none."""
    key_prefix: str = ""
    key_header: str = "Authorization"
    base: str = ""
    """What stands before every path, where clients are told an address that ends so."""
    limits: tuple[Window, ...] = (Window("minute", 60, 600),)
    limit_headers: bool = False
    """Whether every answer says what is left, as the IETF's RateLimit headers do."""
    faults: tuple[Fault, ...] = FAULTS
    """The kit's, and its own behind them."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """Changes of one pod's JSON beside the kit's, by name."""
    furnish: Callable[[Furnishing], AbstractContextManager[None]] | None = None
    """What a rehearsal of a stack needs beside pods: volumes, templates, a bucket."""
    front: Callable[[Fleet, str, int], Front] | None = None
    """Starts the server that clients ask instead of the kit's own: the fleet, the kit's address, the port to take if it is free."""
    read: Callable[[dict[str, Any]], PodInfo] | None = None
    """The adapter's own function that makes a PodInfo of what ``show`` gives: by it the matrices judge the books when a pod is gone."""
    forgets_ended: bool = False
    """A pod whose command has ended, or that was stopped, is history at once: on no list, of no cost; else it stays until it is ended."""
    starts_images: bool = False
    """A pod starts with the entrypoint of its image, or with what the request has in its place."""
    bills_ended: bool = False
    """Such a pod, where it stays, is paid until it is ended."""
    hidden: tuple[str, ...] = ()
    """Beginnings of variables that a rehearsal must not see, beside all that rows of the table name: keys of a store of the cloud's."""

    def refuse(self, why: Refusal) -> HttpProblem:
        """Return the error to raise for a refusal."""
        answer = self.refusals[why]
        return HttpProblem(answer.status, answer.detail, answer.code, answer.errors)
