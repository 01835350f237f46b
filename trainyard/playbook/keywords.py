"""The words of a playbook: what is known where, and what is refused with the word to use instead."""

from __future__ import annotations

from collections.abc import Iterable

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.yamlfile import Map

PLAY = ("name", "hosts", "vars", "vars_files", "tasks", "handlers", "environment", "tags", "gather_facts")
INHERITED = ("when", "tags", "environment", "vars", "ignore_errors", "timeout", "no_log", "delegate_to")
BLOCK = ("name", "block", "rescue", "always", *INHERITED)
INCLUDE = ("name", "include", "when", "tags", "environment", "vars", "ignore_errors", "no_log", "delegate_to")
TASK = (
    "name", "register", "loop", "loop_control", "until", "retries", "delay", "notify", "changed_when", "failed_when", *INHERITED,
)  # fmt: skip
HANDLER = tuple(word for word in TASK if word not in ("loop_control", "tags"))
LOOP_CONTROL = ("label", "loop_var")

INSTEAD = {
    "async": "start it with the 'job' action, wait for it with another one",
    "poll": "start it with the 'job' action, wait for it with another one",
    "become": "pods are used as root; log in as the user you need",
    "become_user": "pods are used as root; log in as the user you need",
    "become_method": "pods are used as root; log in as the user you need",
    "roles": "use 'include: file.yml' with 'vars'",
    "pre_tasks": "put them first in 'tasks'",
    "post_tasks": "put them last in 'tasks'",
    "include_tasks": "use 'include: file.yml'",
    "import_tasks": "use 'include: file.yml'",
    "include_role": "use 'include: file.yml' with 'vars'",
    "import_role": "use 'include: file.yml' with 'vars'",
    "import_playbook": "name the playbooks one after the other on the command line",
    "include_vars": "use 'vars_files' of the play",
    "vars_prompt": "give the value with --extra-vars",
    "serial": "all hosts go through the tasks together",
    "strategy": "all hosts go through the tasks together",
    "max_fail_percentage": "a failed host drops out, the others go on",
    "any_errors_fatal": "a failed host drops out, the others go on",
    "force_handlers": "handlers of a failed host do not run; use 'always' of a block",
    "run_once": "write a play with one host",
    "delegate_facts": "results stay with their host",
    "remote_user": "the user belongs to the host's address",
    "connection": "use 'delegate_to: localhost' or 'hosts: localhost'",
    "check_mode": "use --check for the whole run",
    "diff": "use --diff for the whole run",
    "throttle": "all hosts go through the tasks together",
    "listen": "notify the handler by its name",
    "local_action": "use 'delegate_to: localhost'",
    "module_defaults": "write the argument where it is used",
    "collections": "the actions are built in",
    "debugger": "use --start-at-task to go on at a task",
    "args": "put the arguments below the action",
    "s3": "results and data travel by 'invoke train', 'invoke download'; an action for the bucket is not there yet",
    "ansible.builtin": "leave the prefix out",
    "script": "use 'copy' and 'shell'",
    "raw": "use 'shell'",
    "stat": "use 'shell: test -e ...' with 'register'",
    "get_url": "use 'shell: curl ...' with 'creates'",
    "unarchive": "use 'shell: tar ...' with 'creates'",
    "lineinfile": "use 'template' for the whole file",
    "blockinfile": "use 'template' for the whole file",
    "synchronize": "use 'copy' with a folder as 'src'",
    "git": "use 'shell: git ...' with 'creates'",
    "pip": "use 'shell: uv pip ...' with 'creates'",
    "service": "pods have no service manager; use 'job'",
    "systemd": "pods have no service manager; use 'job'",
    "setup": "use 'shell' with 'register'",
    "fail": "use 'assert'",
    "pause": "use 'wait_for' with 'timeout', or 'until' with 'delay'",
    "meta": "handlers run at the end of the play",
    "async_status": "use 'job: {wait: FOLDER}'",
    "slurp": "use 'fetch', or 'shell: cat' with 'register'",
    "ufw": "use 'command: ufw ...' with 'changed_when'",
    "npm": "use 'command: npm ...' with 'creates'",
    "docker_container": "use 'command: docker ...' with 'changed_when'",
    "docker_image": "use 'command: docker pull ...' with 'changed_when'",
    "docker_compose_v2": "use 'command: docker compose ...' with 'changed_when'",
    "include": "a file is included by a task of its own",
}
"""What people know from elsewhere, and the word for it here."""


def refuse_unknown(node: Map, known: Iterable[str], actions: Iterable[str], what: str) -> None:
    """Raise UserError at the first key that is neither a known keyword nor an action."""
    words = [*known, *actions]
    for key in node:
        if key not in words:
            raise UserError(f"{unknown(key, words, what)}", where=node.where(key))


def unknown(key: str, words: Iterable[str], what: str) -> str:
    """Return the sentence for a word that is not known here."""
    plain = key
    for prefix in ("ansible.builtin.", "ansible.legacy."):
        plain = plain.removeprefix(prefix)
    if plain != key:
        return f"'{key}' is not supported: {INSTEAD['ansible.builtin']}"
    if key.startswith("with_"):
        return f"'{key}' is not supported: use 'loop'"
    if key in INSTEAD:
        return f"'{key}' is not supported {what}: {INSTEAD[key]}"
    return f"unknown keyword '{key}' {what}{suggest(key, words)}"
