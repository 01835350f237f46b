"""What of an edited create request would not be sent so, as a sentence with its place, its reason and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trainyard.clouds.rendering import PROGRAM, Leaf, leaves
from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.reading import display, read
from trainyard.runs.planning.cloudrequest import REFERENCE
from trainyard.settings.clouds import CloudEntry, entries
from trainyard.settings.table import OF_OURS, SETTINGS, StackSettings
from trainyard.yamlfile import Map, Node, Seq

Names = tuple[str, ...]
ROOM = "disk_gb"
"""The setting that a rehearsal says itself: what the rented pod would have need not be free on this machine."""
_WHOLE, _BEFORE = 60, 15
"""Characters of a text that is shown as a whole; of a longer one, those shown before the first that differs."""


def difference(
    row: CloudEntry, document: Map, sent: Mapping[Names, Node], settings: StackSettings, *, rehearsed: bool = False
) -> UserError | None:  # fmt: skip
    """Return the first thing in a file that would not be sent so, None where there is none; ``settings``: what the request is made by.

    ``rehearsed``: an emulator has other addresses, ids and prices than the cloud, and what the file has of these is let be.
    """
    top = document.where() or Location("", 1)
    said = leaves(document)
    if rehearsed:
        let_be = (None, "pod_env", ROOM)
        sent = {path: said[path][0] if path in said and _setting(row, path) in let_be else value for path, value in sent.items()}
        sent = {path: value for path, value in sent.items() if path[-1] not in row.more}
        said = {path: leaf for path, leaf in said.items() if path[-1] not in row.more}
    for path, leaf in said.items():
        if path not in sent and not leaf[0] and any(each[: len(path)] == path for each in sent):
            continue  # an empty map or list: what it lacks is missing
        if path not in sent:
            return _not_sent(row, path, leaf[1] or top, sent, document)
        if leaf[0] != sent[path]:
            return _differs(row, path, leaf, sent, document, settings, top)
    for path in sent:
        if path not in said:
            return _missing(row, path, sent, document, top)
    return None


def other_cloud(row: CloudEntry, document: Map) -> CloudEntry | None:
    """Return the cloud whose request a file looks like more than like this one's, None where it does not."""
    rows = [one for one in entries().values() if one.request_file.endswith(_ending(row)) and one.request_edits]
    likest = max(rows, key=lambda one: (_fields_of(one, document), one.name == row.name))
    return None if likest.name == row.name else likest


def says_nothing(value: Node) -> bool:
    """Tell whether a field leaves what it stands for to the stack's settings."""
    return value is None or value == "" or (value == 0 and not isinstance(value, bool))


def refers(value: object) -> bool:
    """Tell whether a value stands for one that only a run knows."""
    return isinstance(value, str) and REFERENCE.search(value) is not None


def at(node: Node, path: Sequence[str]) -> tuple[Node, Location | None]:
    """Return what stands at a path, and where; None where nothing does."""
    where: Location | None = None
    for name in path:
        if isinstance(node, Map) and name in node:
            where, node = node.where(name, value=True), node[name]
        elif isinstance(node, Seq) and name.isdecimal() and int(name) < len(node):
            where, node = node.where(int(name)), node[int(name)]
        else:
            return None, where
    return node, where


def _ending(row: CloudEntry) -> str:
    return row.request_file[row.request_file.rindex(".") :]


def _fields_of(row: CloudEntry, document: Map) -> int:
    patterns = (pattern.removesuffix(".*").split(".") for pattern, _ in row.request_edits if " " not in pattern)
    return sum(at(document, path)[1] is not None and at(document, path)[0] is not None for path in patterns)


def _not_sent(row: CloudEntry, path: Names, where: Location, sent: Mapping[Names, Node], document: Map) -> UserError:
    named, setting = ".".join(path), _setting(row, path)
    if setting == "pod_env" and path[-1].startswith(OF_OURS):
        return UserError(f"'{named}' is called like Trainyard's own variables", where=where, hint="Call it otherwise, or leave it out.")
    whole = next((path[:length] for length in range(1, len(path)) if path[:length] in sent), path)
    if whole in sent or any(each[: len(path)] == path for each in sent):
        theirs = display(sent[whole]) if whole in sent else "more than one value"
        said = f"'{'.'.join(whole)}' is {display(at(document, whole)[0])} here, and what would be sent has {theirs}"
        return UserError(said, where=at(document, whole)[1] or where, hint=_put_back(row, sent, document))
    if setting is not None:
        others = (pattern for pattern, one in row.request_edits if one == setting and any(_fits(pattern, each) for each in sent))
        other = next(others, None)
        hint = f"Leave it out{f', and say it in {other!r}' if other else ''}."
        return UserError(f"'{named}' has no place in this request, which would be sent without it", where=where, hint=hint)
    bare = {".".join(part for part in each if not part.isdecimal()): None for each in sent}
    known = [*bare, *(pattern for pattern, _ in row.request_edits if "*" not in pattern)]
    hint = f"Leave it out. {_may_say(row, sent, document)}"
    return UserError(f"unknown field '{named}'{suggest(named, known)}", where=where, hint=hint)


def _differs(
    row: CloudEntry, path: Names, leaf: Leaf, sent: Mapping[Names, Node], document: Map, settings: StackSettings, top: Location
) -> UserError:  # fmt: skip
    value, where, theirs = leaf[0], leaf[1] or top, sent[path]
    named, setting = ".".join(path), _setting(row, path)
    mine, other = display(value), display(theirs)
    if isinstance(value, str) and isinstance(theirs, str):
        mine, other, lines = _where_unlike(value, theirs)
        where = replace(where, line=where.line + lines, column=1, text=None) if path == (PROGRAM,) else where
    said = f"'{named}' is {mine} here, and what would be sent has {other}"
    if setting is None or setting == "pod_env":
        return UserError(said, where=where, hint=_put_back(row, sent, document))
    if refers(value) and not refers(theirs):
        return UserError(f"'{named}' refers to a value that nobody has", where=where, hint=f"Say it, like {display(theirs)}.")
    if says_nothing(value):
        if value == 0 and (wrong := _unfit(setting, value, named)):
            return UserError(wrong, where=where)
        hint = f"What says nothing stays as the stack's settings have it: say a value, or take trainyard:{setting} out there."
        return UserError(said, where=where, hint=hint)
    held, read_here = getattr(settings, setting), read(SETTINGS[setting].shape, value, named)
    raised = held != read_here and not (isinstance(held, tuple) and isinstance(read_here, tuple) and set(read_here) <= set(held))
    return UserError(said, where=where, hint=f"{'The recipe' if raised else f'What {row.title} has now'} wants it so.")


def _where_unlike(mine: str, theirs: str) -> tuple[str, str, int]:
    """Return two texts as a message shows them, the part in which they differ, and how many lines stand before that."""
    lines, others = mine.split("\n"), theirs.split("\n")
    number = next((n for n, pair in enumerate(zip(lines, others, strict=False)) if pair[0] != pair[1]), min(len(lines), len(others)))
    one, other = ("" if number >= len(each) else each[number] for each in (lines, others))
    same = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other)))
    cut = max(0, same - _BEFORE) if max(len(one), len(other)) > _WHOLE else 0
    return display(f"{'...' * bool(cut)}{one[cut:]}"), display(f"{'...' * bool(cut)}{other[cut:]}"), number


def _missing(row: CloudEntry, path: Names, sent: Mapping[Names, Node], document: Map, top: Location) -> UserError:
    where = next((place for length in range(len(path) - 1, 0, -1) if (place := at(document, path[:length])[1])), None) or top
    setting = _setting(row, path)
    if setting is None or setting == "pod_env":
        return UserError(f"'{'.'.join(path)}' is missing", where=where, hint=_put_back(row, sent, document))
    said = f"'{'.'.join(path)}' is missing, and {display(sent[path])} would be sent"
    return UserError(said, where=where, hint=f"Say it, with what value you like; without one the stack's {setting} holds.")


def _unfit(setting: str, value: Node, named: str) -> str | None:
    try:
        read(SETTINGS[setting].shape, value, f"'{named}'")
    except UserError as error:
        return error.message
    return None


def _put_back(row: CloudEntry, sent: Mapping[Names, Node], document: Map) -> str:
    return f"It is Trainyard's: put it back as `invoke render` writes it. {_may_say(row, sent, document)}"


def _may_say(row: CloudEntry, sent: Mapping[Names, Node], document: Map) -> str:
    """Say which fields a file of this form may change."""
    tops = {*document, *(path[0] for path in sent)}
    return f"What a file may say: {', '.join(pattern for pattern, _ in row.request_edits if pattern.partition('.')[0] in tops)}."


def _setting(row: CloudEntry, path: Names) -> str | None:
    """Return the setting that a field says, None for one that is Trainyard's."""
    return next((setting for pattern, setting in row.request_edits if _fits(pattern, path)), None)


def _fits(pattern: str, path: Sequence[str]) -> bool:
    parts = pattern.split(".")
    pairs = zip(parts, path, strict=False)
    return len(parts) <= len(path) and all(there.startswith(part[:-1]) if part.endswith("*") else part == there for part, there in pairs)
