"""What a run would be about, without anything being done: hosts, tasks and tags of each play."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainyard.playbook.model import Play
from trainyard.playbook.selection import due


def lines(plays: Sequence[tuple[Play, Sequence[str]]], *, hosts: bool, tasks: bool, tags: bool) -> Iterator[str]:
    """Yield the lines for plays with their hosts; ``tags`` alone names each tag of a play once."""
    for number, (play, names) in enumerate(plays, 1):
        yield f"play #{number} ({','.join(play.hosts)}): {play.name}"
        if hosts:
            yield f"  hosts ({len(names)}):"
            yield from (f"    {name}" for name in names)
        # What stands nowhere in the playbook (handlers that run between its parts) is no task of its writer.
        chosen = [task for task in due(play.tasks) if task.where]
        if tasks:
            yield "  tasks:"
            yield from (f"    {task.title}" + (f"  TAGS: [{', '.join(sorted(task.tags))}]" if tags or task.tags else "") for task in chosen)
        elif tags:
            yield f"  TAGS: [{', '.join(sorted({tag for task in chosen for tag in task.tags}))}]"
