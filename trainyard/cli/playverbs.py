"""The verb that runs playbooks: its options are those of the playbooks' own command line, which says what they mean."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from trainyard.cli.common import SHORT, Verb, context, help_of, task, verb, words_behind
from trainyard.config import find_root
from trainyard.errors import UserError
from trainyard.phrasing import as_typed
from trainyard.shipped import find

if TYPE_CHECKING:
    from trainyard.playbook.hosts.inventory import Inventory


class PlayVerb(Verb):
    """A verb whose short options are those that people know from Ansible."""

    shorts = SHORT | {
        "inventory": "i", "limit": "l", "tags": "t", "extra-vars": "e", "forks": "f", "become": "b", "user": "u", "check": "C", "diff": "D",
        "verbose": "v",
    }  # fmt: skip


@task(
    klass=PlayVerb,
    positional=[],
    iterable=["playbook", "host", "inventory", "limit", "tags", "skip_tags", "extra_vars"],
    incrementable=["verbose"],
    help=help_of(
        playbook="its file, also of playbooks/ by its name; several run one after the other; a run behind them: on its pods",
        stack="on the pods that this environment has",
        host="a host of your ~/.ssh/config, or USER@NAME:PORT (may be repeated)",
        inventory="INI, YAML, a folder, a program, a stack's outputs as JSON, or names: A,B, (may be repeated)",
        limit="of the plays' hosts only these: a pattern (may be repeated)",
        tags="only tasks with one of these tags",
        skip_tags="no tasks with one of these tags",
        start_at_task="name of the task to start at",
        check="change nothing, say what would change",
        diff="show how files change",
        extra_vars="NAME=VALUE, a mapping {a: 1}, or @FILE (may be repeated)",
        vault_password_file="opens what ansible-vault has encrypted; or a program that prints it",
        forks="hosts at once (default: 16)",
        become="tasks become root (or ansible_become_user) where nothing says that they do not",
        user="log in as this user where nothing says another one",
        list_hosts="show which hosts each play is for, and do nothing",
        list_tasks="show the tasks with their tags, and do nothing",
        list_tags="show the tags, and do nothing",
        log="write all lines to this file, too",
        syntax_check="read and check the playbooks only",
        ssh_config="read this file instead of ~/.ssh/config",
        key="private SSH key of pods whose outputs name none",
        verbose="show the output of commands",
    ),
)
@verb
def play(
    c: Context, playbook: Any = None, stack: str | None = None, host: Any = None, inventory: Any = None, limit: Any = None,
    tags: Any = None, skip_tags: Any = None, start_at_task: str | None = None, check: bool = False, diff: bool = False,
    extra_vars: Any = None, forks: int = 16, become: bool = False, user: str | None = None, syntax_check: bool = False,
    ssh_config: str | None = None, key: str | None = None, vault_password_file: str | None = None, list_hosts: bool = False,
    list_tasks: bool = False, list_tags: bool = False, log: str | None = None, verbose: int = 0,
) -> int:  # fmt: skip
    """Run playbooks: here, on a run's pods, an environment's, hosts of your own (invoke play FILE... [RUN]; more: docs/playbooks.md)."""
    from trainyard.playbook.__main__ import main

    files, runs = _files_and_runs(playbook or [])
    words = [str(file) for file in files]
    several = {
        "--host": host, "--inventory": inventory, "--limit": limit, "--tags": tags, "--skip-tags": skip_tags, "--extra-vars": extra_vars,
    }  # fmt: skip
    words += [f"{option}={value}" for option, values in several.items() for value in values or ()]
    one = {
        "--start-at-task": start_at_task, "--forks": forks, "--user": user, "--ssh-config": ssh_config, "--key": key,
        "--vault-password-file": vault_password_file, "--log": log,
    }  # fmt: skip
    words += [f"{option}={value}" for option, value in one.items() if value is not None]
    alone = {
        "--check": check, "--diff": diff, "--become": become, "--list-hosts": list_hosts, "--list-tasks": list_tasks,
        "--list-tags": list_tags, "--syntax-check": syntax_check,
    }  # fmt: skip
    words += [option for option, said in alone.items() if said]
    words += ["--verbose"] * verbose
    shown = shlex.join(["invoke", "play", *(playbook or []), *([f"--stack={stack}"] if stack else [])])
    return main([*words, *(words_behind() or ())], as_typed(shown), None if syntax_check else _pods(runs, stack))


def _files_and_runs(words: list[str]) -> tuple[list[Path], list[str]]:
    """Part playbooks from runs: what is a file, is one below playbooks/, or is called like one, is a playbook."""
    files: list[Path] = []
    runs: list[str] = []
    for word in words:
        path = Path(word) if Path(word).is_file() else _named(word)
        if path is None and not word.endswith((".yml", ".yaml")) and files:
            runs.append(word)
        else:
            files.append(path or Path(word))
    if not files:
        raise UserError("say which playbook: invoke play FILE", hint="Those that are there: playbooks/*.yml")
    return files, runs


def _named(word: str) -> Path | None:
    try:
        path = find(find_root(), f"playbooks/{word}")
    except UserError:  # outside any repository
        return None
    return path if path.is_file() else None


def _pods(runs: list[str], stack: str | None) -> Inventory | None:
    """Return the pods of the runs and of the environment that are named, None without either."""
    if not runs and stack is None:
        return None
    from trainyard.runs.verbs.play import pods_of

    return pods_of(context(), runs, stack)
