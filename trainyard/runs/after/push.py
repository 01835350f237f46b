"""Bring the result of a run to the Hugging Face Hub with a model card: private unless a person says otherwise."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from trainyard.errors import UserError
from trainyard.runs.after.cardfacts import base_of, licence_of
from trainyard.runs.after.deliver import at_home
from trainyard.runs.after.tohub import HubWish, StagedResult, card_text, going, place_on, send, staged
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.deliverymeans import need_means
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.delivery import DeliveryTarget, target_of
from trainyard.runs.records.record import RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.verbs.past import SeenAttempt, seen
from trainyard.storage.hub import CARD, HubPush, open_repository


def push_run(context: CommandContext, reference: str, wish: HubWish, stack: str | None, licence: str | None) -> HubPush:
    """Push the result of a run; what can be refused is refused before anything of it is fetched.

    Raises UserError for a run that is no success, and what storage/hub.py raises.
    """
    need_means(context.env, repository(wish.repo))
    with seen(context, reference, stack) as attempt:
        _refuse_failed(attempt.record)
        wish = _with_licence(context, attempt.record, wish, licence)
        place = place_on(context, wish)
        open_repository(place)
        record_act(context, "push", str(attempt.key), to=f"hub:{wish.repo}", public=bool(wish.public))
        with _staged(context, attempt, stack) as result:
            return send(context, result, attempt, wish)


def shown(context: CommandContext, reference: str, wish: HubWish, stack: str | None, licence: str | None) -> str:
    """Return the card that a push would send, having told its files; nothing is asked of the repository."""
    repository(wish.repo)
    with seen(context, reference, stack) as attempt:
        _refuse_failed(attempt.record)
        wish = _with_licence(context, attempt.record, wish, licence)
        with _staged(context, attempt, stack) as result:
            for name, file in sorted(going(context, result).items()):
                context.ui.say(f"would send {name}" + (" (this card)" if name == CARD else f" ({file.entry.size:,} bytes)"))
            return card_text(context, result, attempt, wish)[0]


def repository(name: str) -> DeliveryTarget:
    """Return a repository of the Hub as a target; raises UserError for what is none."""
    try:
        return target_of(f"hub:{name}", Path.cwd())
    except UserError:
        raise UserError(f"--hub {name}: a repository of the Hub is OWNER/NAME") from None


def _refuse_failed(record: RunRecord) -> None:
    """Raise UserError for a run that is no success."""
    if not record.training_success:
        over = record.reached("ended")
        how = f"it has failed: {record.error}" if over and record.error else "it was no success" if over else "it is not over"
        hint = f"What it left: invoke deliver {record.id} --to local" if over else f"Follow it: invoke attach {record.id}"
        raise UserError(f"{record.id} does not go to the Hub: {how}", hint=hint)


def _with_licence(context: CommandContext, record: RunRecord, wish: HubWish, asked: str | None) -> HubWish:
    """Return the wish with the licence of the card; raises UserError where what everybody may read would have none."""
    licence, unknown = licence_of(context, base_of(record), asked)
    if licence is None:
        said = f"the licence of what {record.id} was made of is not known ({unknown})"
        if wish.public:
            raise UserError(f"{said}; nothing was sent", hint="Say under which one it goes out: --license apache-2.0")
        context.ui.warn(f"{said}: the card names none (--license ID)")
    return replace(wish, licence=licence)


def _staged(context: CommandContext, attempt: SeenAttempt, stack: str | None) -> AbstractContextManager[StagedResult]:
    record = attempt.record
    store = attempt.store or store_of(context, record.bucket)
    home = at_home(record) if attempt.here else None
    if home is None and store is None:
        raise UserError(f"the result of {attempt.key} is in no bucket and not at home: there is nothing to push")
    return staged(context, stack or record.environment, store, attempt.key, home)
