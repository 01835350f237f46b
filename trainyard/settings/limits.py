"""The spending limits of the setting ``limits``: dollars of what, and what then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from trainyard.errors import UserError
from trainyard.fields import Fields
from trainyard.settings.blocks import LIMIT, LIMIT_NEEDS


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule:
    """One limit: so many dollars per run, day, week or month; of all runs, of this stack's or of the user's."""

    amount: float
    per: str
    of: str = "all"
    action: str = "block"


def limit_rules(blocks: Sequence[Mapping[str, object]]) -> list[LimitRule]:
    """Return the limits that the setting ``limits`` names; raises UserError, with its place, for a block that is none."""
    return [_rule(block) for block in blocks]


def _rule(block: Mapping[str, object]) -> LimitRule:
    fields = Fields(block, "limits")
    said = {name: value for name, shape in LIMIT.items() if (value := fields.shaped(name, shape)) is not None}
    fields.done()
    missing = next((name for name in LIMIT_NEEDS if name not in said), None)
    if missing is not None:
        hint = "A limit looks like: {amount: 25, per: day}, and may say more: of: stack, action: warn."
        raise UserError(f"limits: '{missing}' is missing", where=fields.where(), hint=hint)
    return LimitRule(amount=float(cast("float", said.pop("amount"))), **cast("dict[str, str]", said))
