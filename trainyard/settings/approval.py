"""Which runs of the queue a person has to approve: the rules of a stack's ``approve`` setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from trainyard.errors import UserError
from trainyard.fields import Fields
from trainyard.settings.blocks import APPROVAL_RULE


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """One rule: it asks for approval where all that it names is so."""

    cost: float | None
    """Dollars that the run costs at most: so many or more, or nobody can tell."""
    users: tuple[str, ...]
    gpus: tuple[str, ...]
    """One of them is among those that the stack asks for."""

    def why(self, user: str, gpus: Sequence[str], estimate: float | None) -> str | None:
        """Return what of a run asks for approval, None where the rule does not."""
        words = []
        if self.cost is not None:
            if estimate is not None and estimate < self.cost:
                return None
            words.append("what it costs is not known" if estimate is None else f"it may cost ${estimate:.2f}, ${self.cost:g} or more")
        if self.users:
            if user not in self.users:
                return None
            words.append(f"it is {user}'s")
        if self.gpus:
            rare = {name.lower() for name in self.gpus}
            named = [gpu for gpu in gpus if gpu.lower() in rare]
            if not named:
                return None
            words.append(f"its pod may have {' or '.join(named)}")
        return ", ".join(words)


def approval_rules(blocks: Sequence[Mapping[str, object]]) -> tuple[ApprovalRule, ...]:
    """Read the rules as a person declares them; raises UserError with its place for what is no rule."""
    return tuple(_rule(block, f"approve rule {number}") for number, block in enumerate(blocks, 1))


def approval_needed(rules: Sequence[ApprovalRule], user: str, gpus: Sequence[str], estimate: float | None) -> str | None:
    """Return why a person has to approve a run of a user, on a stack that asks for such GPUs; None where none has to."""
    reasons = (rule.why(user, gpus, estimate) for rule in rules)
    return next((why for why in reasons if why is not None), None)


def _rule(block: Mapping[str, object], name: str) -> ApprovalRule:
    fields = Fields(block, name)
    cost, users, gpus = (fields.shaped(key, shape) for key, shape in APPROVAL_RULE.items())
    fields.done()
    if cost is None and not users and not gpus:
        raise UserError(
            f"{name} says nothing", where=fields.where(), hint=f"Say one of {', '.join(APPROVAL_RULE)}; cost: 0 means every run."
        )
    return ApprovalRule(cast("float | None", cost), cast("Any", users) or (), cast("Any", gpus) or ())
