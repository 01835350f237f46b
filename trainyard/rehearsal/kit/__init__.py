"""The kit of the emulators.

An emulator stands in for a cloud: its API as the specification and recorded behaviours say, in front of real local
pods. What all clouds share is here (pods with phases, machines, books of account, faults, the HTTP server, start and
stop); a cloud is a folder beside this one that makes one ``EmulatedCloud``, which the table of clouds names:

    ROUTES = (
        Route("GET", "/v1/instances", "list", lambda fleet, request: Reply(200, {"data": [show(fleet, r) for r in fleet.all()]})),
        Route("GET", "/v1/instances/*", "get", lambda fleet, request: Reply(200, {"data": show(fleet, fleet.existing(request.id))})),
        Route("POST", "/v1/instances", "create", create),
        Route("DELETE", "/v1/instances/*", "delete", delete, pods="own"),
        Route("GET", "/v1/types", "catalog", types),
    )
    NIMBUS = EmulatedCloud(name="nimbus", title="Nimbus", routes=ROUTES, ...)

What it takes, in the order in which it is written:

1. ``show(fleet, record)``: a pod in the cloud's JSON. The phases (``ledger.Phase``) become the cloud's own words here;
   ``fleet.port(record)`` is the SSH port that shows now, ``fleet.clock(moment)`` a moment as the cloud tells it.
2. Stock and prices: a tuple of rows, nothing cleverer; ``fleet.sold_out()`` is what a fault has sold out. A list in
   pages takes ``fleet.page(25)`` as their size, so that a fault can make them short.
3. The routes. A create checks the body, finds room and price, and hands ``NewPod`` to ``fleet.create``; a delete is
   ``fleet.delete(id, why)``. ``raise HttpProblem(status, detail)`` or ``raise fleet.cloud.refuse("no capacity")`` for
   what is refused. Each route says its ``call``, the word by which faults know it (create, list, get, delete, catalog),
   and what a pod's own key may ask of it.
4. ``container(machines, record)``: what the cloud puts into a pod (``Container``): variables, the SSH keys, the command
   that runs from the first second, GPUs. Only what the real cloud brings in: no pod sees what it would not see there.
   ``machines.address`` is the emulator's own, for pods that end themselves. A cloud without SSH gives ``job``: the pod
   is that command, tells no port and has exited when it ends, with ``record["exit_code"]`` and its lines in ``fleet.log``.
5. ``error_reply`` (an error in the cloud's form), ``refusals`` (its statuses and words) and ``fields`` (where id, name,
   status, price and variables stand in its JSON): with them every fault of ``FAULTS`` works on it. Traps of its own are
   rows behind them: ``faults=(*FAULTS, reply("create-outbid", "create", "...", status=410))``.

``start(NIMBUS, root)`` then answers on 127.0.0.1, and ``.env`` leads a client there; ``python -m trainyard.rehearsal
nimbus --root DIR`` does it from a shell, ``invoke rehearse --stack S`` runs a whole story against it. Tests ask the
emulator's own ledger (``emulator.ledger()``) who was paid, and switch faults (``emulator.faults.on(name, times=1)``);
with ``Timing(provisioning=1e9)`` no pod gets a machine, which is enough for all that is about the API alone.

A row of the table with an ``emulator`` is then tried by itself: by the contract (tests/clouds/contract.py: what the cloud
cannot keep is a line in ``CANNOT``) and, where ``read`` is given, by ``invoke faults.cloud --stack S`` and ``invoke faults.crash
--stack S``, which judge its books.
A whole emulator in 70 lines is in tests/rehearsal/test_kit.py. A cloud whose own programs can run here needs none: it is
an ``OwnService``.
"""

from trainyard.rehearsal.kit.cloud import (
    ACCOUNT,
    Container,
    EmulatedCloud,
    ErrorAnswer,
    Front,
    GpuFacts,
    HttpProblem,
    OwnService,
    PodFields,
    Reply,
    Request,
    Route,
    Window,
)
from trainyard.rehearsal.kit.emulator import Emulator, Furnishing, refuse_beside_the_real, start
from trainyard.rehearsal.kit.faults import FAULTS, Fault, Faults, reply
from trainyard.rehearsal.kit.fleet import ACTIONS, Action, Fleet, NewPod, Timing
from trainyard.rehearsal.kit.ledger import Paid, PodRecord, read_ledger
from trainyard.rehearsal.kit.machines import Machines, image_command, moved

__all__ = [
    "ACCOUNT",
    "ACTIONS",
    "FAULTS",
    "Action",
    "Container",
    "EmulatedCloud",
    "Emulator",
    "ErrorAnswer",
    "Fault",
    "Faults",
    "Fleet",
    "Front",
    "Furnishing",
    "GpuFacts",
    "HttpProblem",
    "Machines",
    "NewPod",
    "OwnService",
    "Paid",
    "PodFields",
    "PodRecord",
    "Reply",
    "Request",
    "Route",
    "Timing",
    "Window",
    "image_command",
    "moved",
    "read_ledger",
    "refuse_beside_the_real",
    "reply",
    "start",
]
