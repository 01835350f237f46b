"""The paths of what people may have the server do: each is a POST, answered with the operation that tells how it goes."""

# No `from __future__ import annotations`: FastAPI reads the annotations of functions that are made in a loop.

import hashlib
import json
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Response
from pydantic import TypeAdapter

from trainyard.jsontext import parse_json
from trainyard.ledger.accounts import Proven
from trainyard.ledger.answers import AnswerRows
from trainyard.ledger.operations import ServerOperation
from trainyard.web.guard.principal import Needs, Runner, TheSite
from trainyard.web.rest.commands import OF_RUNS, CommandBody, ServedCommand, StartRun, start_words, words_of
from trainyard.web.rest.operations import RequestId
from trainyard.web.rest.reach import refuse_going_on, refuse_start
from trainyard.web.rest.runs import Label, User
from trainyard.web.site import Site
from trainyard.web.work import begin

router = APIRouter(tags=["actions"])
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=r"^[\x21-\x7e]{1,255}$")]
_OPERATION = TypeAdapter(ServerOperation)


def once(site: Site, who: Proven, key: str | None, asked: object, do: Callable[[], ServerOperation]) -> Response:
    """Answer 202 with what ``do`` begins; with a key that was said before, what was answered then, and nothing is begun."""
    if key is None:
        return _accepted(_OPERATION.dump_json(do()).decode())
    rows, account = AnswerRows(site.ledger.database), who.account.name
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
    kept = rows.take(account, key, digest, site.now())
    if kept is not None:
        if kept.hash != digest:
            raise HTTPException(422, "this Idempotency-Key was said for another request")
        if kept.status is None:
            raise HTTPException(409, "a request with this Idempotency-Key is being answered", headers={"Retry-After": "1"})
        return _accepted(kept.body or "", replayed=True)
    try:
        body = _OPERATION.dump_json(do()).decode()
    except BaseException:
        rows.drop(account, key)
        raise
    rows.keep(account, key, 202, body)
    return _accepted(body)


def _accepted(body: str, *, replayed: bool = False) -> Response:
    headers = {"Location": f"/api/v1/operations/{parse_json(body)['id']}", **({"Idempotency-Replayed": "true"} if replayed else {})}
    return Response(body, 202, media_type="application/json", headers=headers)


@router.post("/runs", status_code=202, response_model=ServerOperation)
def start(site: TheSite, who: Runner, request_id: RequestId, asked: StartRun, key: IdempotencyKey = None) -> Response:
    """Put a run into the queue; a worker begins it when it is its turn."""
    refuse_start(site, asked, who.scopes)
    words = start_words(asked, _start_key(who, key))
    subject = f"{who.account.name}/{asked.name}" if asked.name else ""
    return once(site, who, key, ["submit", asked.model_dump()], lambda: begin(site, who, request_id, words, subject=subject))


def _start_key(who: Proven, key: str | None) -> str | None:
    """Return the key that the verb gets: accounts do not share keys, and the verb's have another alphabet."""
    return f"server-{hashlib.sha256(f'{who.account.name} {key}'.encode()).hexdigest()[:32]}" if key else None


def _add(command: ServedCommand) -> None:
    body = command.body
    default = ... if any(field.is_required() for field in body.model_fields.values()) else None

    def act(
        site: TheSite, who: Annotated[Proven, Depends(Needs(command.scope))], request_id: RequestId, user: User, label: Label,
        asked: body = Body(default), key: IdempotencyKey = None,  # type: ignore[valid-type]  # noqa: B008
    ) -> Response:  # fmt: skip
        said: CommandBody = asked or body()
        run = f"{user}/{label}"
        refuse_going_on(site, run, said, who.scopes)
        words = words_of(command, run, said, _start_key(who, key))
        return once(site, who, key, [command.verb, run, said.model_dump()], lambda: begin(site, who, request_id, words, subject=run))

    router.add_api_route(
        f"/runs/{{user}}/{{label}}/{command.path}", act, methods=["POST"], status_code=202, response_model=ServerOperation,
        summary=command.summary, operation_id=f"{command.path}_run",
    )  # fmt: skip


for _command in OF_RUNS:
    _add(_command)
