"""The items of a task's loop, each with the variables that it brings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from trainyard.errors import UserError
from trainyard.playbook.model import Loop, Task
from trainyard.playbook.values import Variables, look_up


def looped(task: Task, variables: dict[str, object]) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    """Yield for each item of a task's loop what it brings, and all variables; once where there is no loop."""
    loop = task.loop
    if loop is None:
        yield {}, variables
        return
    try:
        items = loop.items.render(variables)
        if loop.lookup is not None:
            items = look_up(loop.lookup, items, variables, loop.items.where)
    except UserError:
        # What a skipped task would have registered need not exist for a loop that is skipped by the same condition.
        if _skipped_anyway(task, variables):
            items = []
        else:
            raise
    if isinstance(items, (str, Mapping)) or not isinstance(items, Iterable):
        raise UserError(f"'loop' needs a list, found {items!r}"[:200], where=loop.items.where)
    items = list(items)
    for index, item in enumerate(items):
        about = {loop.var: item, **_position(loop, items, index)}
        yield about, {**variables, **about}


def _position(loop: Loop, items: list[object], index: int) -> dict[str, object]:
    """Return the variables that tell where in the loop an item stands."""
    about: dict[str, object] = {loop.index_var: index} if loop.index_var else {}
    if loop.extended:
        last = len(items) - 1
        about["ansible_loop"] = {
            "allitems": items, "index": index + 1, "index0": index, "first": index == 0, "last": index == last, "length": len(items),
            "revindex": last - index + 1, "revindex0": last - index,
            **({"previtem": items[index - 1]} if index else {}), **({"nextitem": items[index + 1]} if index < last else {}),
        }  # fmt: skip
    return about


def _skipped_anyway(task: Task, variables: Variables) -> bool:
    """Tell whether the conditions fail without an item."""
    try:
        return not all(condition.holds(variables) for condition in task.when)
    except UserError:
        return False
