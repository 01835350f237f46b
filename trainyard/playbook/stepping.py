"""From a task to its step: the environment and the arguments rendered, paths written out."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import TemplateError

from trainyard.errors import TrainyardError, UserError
from trainyard.playbook.actions import ACTIONS
from trainyard.playbook.model import Task
from trainyard.playbook.paths import expanded
from trainyard.playbook.schema import render_args
from trainyard.playbook.sources import located
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables
from trainyard.remote.protocol import Transport


def environment_of(task: Task, variables: Variables) -> dict[str, object]:
    """Return the environment of a task, the inner mapping over the outer ones."""
    environment: dict[str, object] = {}
    for value in task.environment:
        rendered = value.render(variables)
        if not isinstance(rendered, Mapping):
            raise UserError("'environment' is a mapping of names to values", where=value.where)
        environment |= rendered
    return environment


def step_of(task: Task, variables: Variables, t: Transport, environment: Mapping[str, object]) -> Step:
    """Return the step of a task."""
    return built(task, expanded(ACTIONS[task.action].schema, args_of(task, variables), t, environment), variables)


def args_of(task: Task, variables: Variables) -> dict[str, object]:
    """Return a task's arguments, files of this machine among them where they are found."""
    schema = ACTIONS[task.action].schema
    return located(schema, render_args(schema, task.args, variables), task.search or (task.folder,))


def built(task: Task, args: Mapping[str, object], variables: Variables) -> Step:
    """Return what an action makes of its arguments; what it cannot is a mistake in the playbook, whatever is raised."""
    try:
        return ACTIONS[task.action].build(args, task.folder, variables)
    except TrainyardError:
        raise
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError, TemplateError) as error:
        raise UserError(f"'{task.action}': {error or type(error).__name__}", where=task.where) from None
