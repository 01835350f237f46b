"""The words of a playbook: what is known where, and what is refused with the word to use instead."""

from __future__ import annotations

from collections.abc import Iterable

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.playbook.schema import Arg, Schema
from trainyard.yamlfile import Map

SWITCHES = ("ignore_errors", "ignore_unreachable", "any_errors_fatal", "run_once", "check_mode", "diff", "become")
SETTINGS = ("timeout", "throttle", "delegate_to", "become_user", "become_method", "connection")
INHERITED = ("tags", "environment", "vars", "no_log", "module_defaults", "collections", *SWITCHES, *SETTINGS)
_CONDITIONAL = ("name", "when", *INHERITED)
PLAY = (
    "name", "hosts", "pre_tasks", "roles", "tasks", "post_tasks", "handlers", "vars_files", "vars_prompt", "gather_facts", "gather_subset",
    "gather_timeout", "remote_user", "user", "port", "serial", "max_fail_percentage", "force_handlers", "strategy", "order",
    *(word for word in INHERITED if word not in ("delegate_to", "run_once")),
)  # fmt: skip
BLOCK = ("block", "rescue", "always", *_CONDITIONAL)
LOOKUPS = (
    "items", "list", "dict", "fileglob", "first_found", "nested", "sequence", "together", "indexed_items", "flattened", "lines",
    "subelements", "random_choice",
)  # fmt: skip
WITH = tuple(f"with_{lookup}" for lookup in LOOKUPS)
_LOOPED = ("loop", "loop_control", "register", *WITH)
TASK = (
    "until", "retries", "delay", "notify", "changed_when", "failed_when", "args", "action", "local_action", *_LOOPED, *_CONDITIONAL,
)  # fmt: skip
HANDLER = ("listen", *(word for word in TASK if word != "tags"))
STATIC = ("import_tasks", "include", "import_role")
DYNAMIC = ("include_tasks", "include_role")
IMPORT = ("args", *_CONDITIONAL)
INCLUDE = ("args", *_LOOPED, *_CONDITIONAL)
IMPORT_PLAYBOOK = ("import_playbook", "name", "vars", "tags", "when")
ROLE_ENTRY = ("role", "name", "when", *INHERITED)
LOOP_CONTROL = ("label", "loop_var", "index_var", "pause", "extended")
WAY = (
    "ansible_host", "ansible_ssh_host", "ansible_user", "ansible_ssh_user", "ansible_port", "ansible_ssh_port", "ansible_connection",
    "ansible_ssh_private_key_file", "ansible_private_key_file", "ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args",
    "ansible_host_key_checking", "ansible_ssh_host_key_checking", "ansible_password", "ansible_ssh_pass", "ansible_ssh_password",
)  # fmt: skip
"""Variables that say how a host is reached, which is settled before any task."""
PROMPT = ("name", "prompt", "private", "default", "confirm", "unsafe")
STRATEGIES = ("linear", "free", "host_pinned")
CONNECTIONS = ("ssh", "local", "smart", "paramiko", "paramiko_ssh")

_ROLE_ARGS = (
    Arg("name", required=True), Arg("tasks_from"), Arg("vars_from"), Arg("defaults_from"), Arg("handlers_from"),
    Arg("allow_duplicates", "bool"), Arg("public", "bool"), Arg("rolespec_validate", "bool"),
)  # fmt: skip
_FILE = (Arg("file", required=True),)
_META = (
    "flush_handlers", "end_play", "end_host", "end_batch", "end_role", "clear_host_errors", "clear_facts", "noop", "reset_connection",
    "refresh_inventory",
)  # fmt: skip
COURSE: dict[str, Schema] = {
    schema.action: schema
    for schema in (
        Schema("include_tasks", (*_FILE, Arg("apply", "map")), free="file", does="tasks of another file join when the run comes to them"),
        Schema("import_tasks", _FILE, free="file", does="tasks of another file, read with this one"),
        Schema("include", _FILE, free="file", does="another name of import_tasks"),
        Schema("include_role", (*_ROLE_ARGS, Arg("apply", "map")), does="tasks and handlers of a role join when the run comes to them"),
        Schema("import_role", _ROLE_ARGS, does="tasks and handlers of a role, read with this file"),
        Schema("meta", (Arg("action", required=True, choices=_META),), free="action", does="handlers now, an end, hosts that failed go on"),
    )
}
"""What only the executor and the loader can do, beside the actions."""

_PREFIXES = ("ansible.builtin.", "ansible.legacy.")
_COLLECTIONS = {
    "ansible.posix.": ("synchronize", "authorized_key", "mount", "sysctl"),
    "community.general.": ("timezone", "modprobe", "archive", "ini_file", "locale_gen"),
    "amazon.aws.": ("s3",),
}
_RENAMED = {"amazon.aws.s3_object": "s3", "amazon.aws.aws_s3": "s3"}

_JOB = "start it with the 'job' action, wait for it with another one"
INSTEAD = {
    "async": _JOB,
    "poll": _JOB,
    "become_flags": "say become_user and become_method; sudo gets -n",
    "become_exe": "sudo, su or doas of the host's PATH is used",
    "sudo": "use 'become: true'",
    "sudo_user": "use 'become_user'",
    "remote_user": "say it for the whole play, or become_user for a task",
    "port": "say it for the whole play, or ansible_port for a host",
    "delegate_facts": "facts stay with the host that the task is for; set them there by a play of its own",
    "debugger": "use --start-at-task to go on at a task",
    "fact_path": "facts of one's own are not gathered; ask with 'shell' and 'register'",
    "static": "write import_tasks, or include_tasks",
    "async_status": "use 'job: {wait: FOLDER}'",
    "docker_container": "use 'command: docker ...' with 'changed_when'",
    "docker_image": "use 'command: docker pull ...' with 'changed_when'",
    "docker_compose_v2": "use 'command: docker compose ...' with 'changed_when'",
    "docker_volume": "use 'command: docker volume create NAME' with 'changed_when'",
    "docker_network": "use 'command: docker network create NAME' with 'creates' or 'failed_when'",
    "docker_login": "use 'command: docker login --password-stdin ...' with 'stdin' and 'no_log'",
    "conda": "use 'shell: conda ...' with 'creates'",
    "expect": "use 'shell' with 'stdin'",
    "npm": "use 'command: npm ...' with 'creates'",
    "apt_key": "put the key below /etc/apt/keyrings by get_url and name it in the repository's line: [signed-by=FILE]",
    "service_facts": "ask 'command: systemctl is-active NAME' with 'register' and 'failed_when: false'",
    "rpm_key": "use 'command: rpm --import ADDRESS' with 'changed_when'",
    "yum_repository": "use 'copy' for a file below /etc/yum.repos.d",
    "zypper": "use 'command: zypper --non-interactive install NAME' with 'changed_when'",
    "zypper_repository": "use 'copy' for a file below /etc/zypp/repos.d",
    "dpkg_selections": "use 'command: apt-mark hold NAME' with 'changed_when'",
    "debconf": "use 'shell: debconf-set-selections' with 'stdin' and 'changed_when'",
    "snap": "use 'command: snap install NAME' with 'creates'",
    "alternatives": "use 'command: update-alternatives --set NAME PATH' with 'changed_when'",
    "pam_limits": "use 'lineinfile' with a file below /etc/security/limits.d",
    "iptables": "use 'command: iptables ...' with 'changed_when'",
    "seboolean": "use 'command: setsebool -P NAME on' with 'changed_when'",
    "sefcontext": "use 'shell: semanage fcontext ...' with 'changed_when'",
    "mysql_db": "use 'command: mysql -e ...' with 'changed_when'",
    "mysql_user": "use 'command: mysql -e ...' with 'changed_when'",
    "postgresql_db": "use 'command: createdb NAME' with 'failed_when'",
    "postgresql_user": "use 'command: createuser NAME' with 'failed_when'",
    "htpasswd": "use 'shell: htpasswd -i FILE NAME' with 'stdin' and 'no_log'",
    "with_filetree": "use 'copy' or 'synchronize' with the folder itself",
    "k8s": "use 'command: kubectl apply -f FILE' with 'changed_when'",
    "helm": "use 'command: helm upgrade --install ...' with 'changed_when'",
    "ufw": "use 'command: ufw ...' with 'changed_when'",
    "selinux": "use 'shell: setenforce ...' with 'changed_when'",
    "firewalld": "use 'shell: firewall-cmd ...' with 'changed_when'",
    "add_host": "name the machine in the inventory, or by --host",
    "group_by": "put a condition on the tasks: 'when'",
    "reboot": "a pod that is rebooted may be gone; for a machine of your own: 'shell: reboot', then wait_for_connection in another play",
}
"""What people know from elsewhere, and the word for it here."""


def plain(key: str) -> str:
    """Return an action's or keyword's short name where the long one means the same here."""
    for prefix in _PREFIXES:
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    for prefix, names in _COLLECTIONS.items():
        if key.startswith(prefix) and key.removeprefix(prefix) in names:
            return key.removeprefix(prefix)
    return _RENAMED.get(key, key)


def unknown_in(node: Map, known: Iterable[str], actions: Iterable[str], what: str) -> list[UserError]:
    """Return an error for each key that is neither a known keyword nor an action."""
    words = [*known, *actions]
    return [UserError(_unknown(key, words, what), where=node.where(key)) for key in node if plain(key) not in words]


def _unknown(key: str, words: Iterable[str], what: str) -> str:
    """Return the sentence for a word that is not known here."""
    short = key.rpartition(".")[2]
    if short in INSTEAD:
        return f"'{key}' is not supported {what}: {INSTEAD[short]}"
    if key.startswith("with_"):
        return f"'{key}' is not supported {what}: there are {', '.join(WITH)}, and 'loop' takes any list"
    if "." in key:
        nearest = suggest(short, words) if key.startswith(_PREFIXES) else ""
        return f"there is no action '{key}'{nearest}: the actions are built in, collections are not read"
    return f"unknown keyword '{key}' {what}{suggest(key, words)}"
