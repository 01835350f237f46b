"""Where a task is done and as whom: its own host, another one of the run, this machine; as the login's user or another."""

from __future__ import annotations

from collections.abc import Mapping

from trainyard.errors import UserError
from trainyard.playbook.becoming import METHODS, Becoming
from trainyard.playbook.model import Task
from trainyard.playbook.values import Value, Variables, boolean, rendered
from trainyard.remote.protocol import Transport

_HERE = ("localhost", "127.0.0.1", "::1")


def delegate(task: Task, variables: Variables) -> str | None:
    """Return the name of the machine that does the task instead of its host."""
    to = None if task.delegate_to is None else task.delegate_to.render(variables)
    return None if to is None or not str(to).strip() else str(to)


def way_of(
    task: Task, own: Transport, here: Transport, hosts: Mapping[str, Transport], variables: Variables, *, become: bool
) -> Transport:  # fmt: skip
    """Return how the machine is reached that a task is done on, as the user who does it. Raises UserError where there is no such way.

    ``become``: what holds where neither a variable nor the task says it.
    """
    to, way = delegate(task, variables), own
    if to is not None:
        if to not in hosts and to not in _HERE:
            known = ", ".join(dict.fromkeys(("localhost", *hosts)))
            raise UserError(f"'delegate_to': '{to}' is no host of this run, there are: {known}", where=task.where)
        way = hosts.get(to, here)
    elif task.connection is not None and task.connection.render(variables) == "local":
        way = here
    said = _said("ansible_become", task.become, variables)
    if not (become if said is None else boolean(said, task.where)):
        return way
    user = _said("ansible_become_user", task.become_user, variables) or "root"
    method = _said("ansible_become_method", task.become_method, variables) or "sudo"
    if method not in METHODS:
        raise UserError(f"'become_method': '{method}' is not supported: there are {', '.join(METHODS)}", where=task.where)
    return Becoming(way, str(user), str(method))


def _said(name: str, word: Value | None, variables: Variables) -> object:
    """Return what a variable says, which is stronger, else what the task does."""
    value = rendered(variables.get(name), variables)
    return value if value is not None or word is None else word.render(variables)
