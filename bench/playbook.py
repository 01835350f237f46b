"""How long 18 small tasks take on a host that is reached over SSH: ours beside Ansible, pyinfra and plain ssh, in one run.

Folders, files of 1 to 22 KB, templates, commands and a link, one of which needs the answer of another; cold connections, whole
processes, interleaved. Once over loopback, once with a round trip of 80 ms. "One task" is what starting and connecting take.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import engines
from bench.engines import ENGINES, NAMES, OURS, Target
from bench.measure import Usage, machine, measure, medians, table

_FILES = {"a.conf": 1024, "b.conf": 4096, "c.json": 9000, "d.txt": 22_000}
_TEMPLATES = {
    "t1.j2": "name={{ owner }}\n",
    "t2.j2": "rank={{ rank }}\n" * 40,
    "t3.j2": "{% for i in range(200) %}line {{ i }} {{ owner }}\n{% endfor %}",
}
_COMMANDS = ("true", "uname -r", "date +%Y", "id -u", "echo {size} >{base}/size")
_PLAY = """\
- hosts: all
  vars: {owner: bench, rank: 8}
  tasks:
    - {name: conf, file: {path: "{{ base }}/conf.d", state: directory, mode: "0755"}}
    - {name: logs, file: {path: "{{ base }}/logs", state: directory, mode: "0755"}}
    - {name: data, shell: "mkdir -p {{ base }}/data && echo data >{{ base }}/data/name"}
"""
_LINK = '    - {name: link, file: {src: "{{ base }}/conf.d", path: "{{ base }}/current", state: link}}\n'


def main() -> None:
    """Run the rounds and print a table for each link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=",".join(ENGINES), help="which of them to measure, '' for none (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default: 5)")
    parser.add_argument("--late", default="0,80", help="round trips of the link in ms (default: 0,80)")
    words = parser.parse_args()
    clients = [OURS, *engines.install([name for name in words.peers.split(",") if name])]
    for milliseconds, target in engines.targets(words.late):
        _write(target.folder)
        _show(milliseconds, clients, _rounds(clients, target, words.rounds), words.rounds)


def _rounds(clients: Sequence[str], target: Target, rounds: int) -> dict[tuple[str, str], list[Usage]]:
    """Run each client with one task, all tasks on an empty host, and all of them again, so often."""
    usage: dict[tuple[str, str], list[Usage]] = {}
    for number in range(rounds):
        for client in clients:
            base = target.folder / "host"
            shutil.rmtree(base, ignore_errors=True)
            base.mkdir()
            for what, name in (("one", "one"), ("first", "all"), ("again", "all")):
                words, env = engines.playbook(client, target, name, str(base))
                usage.setdefault((client, what), []).append(measure(words, {**env, "PYTHONPATH": os.getcwd()}, target.folder))
                _leave_no_connection(target)
            seen = sorted(path.name for path in base.rglob("*"))
            if len(seen) != 13:
                sys.exit(f"bench: {client} left something else behind: {seen}")
            print(f"round {number + 1}: {client}: {usage[client, 'first'][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    return usage


def _leave_no_connection(target: Target) -> None:
    """End the connections that a client keeps for its next run: each begins cold."""
    for control in target.folder.glob("cp*/*"):
        subprocess.run(["ssh", "-o", f"ControlPath={control}", "-O", "exit", "pod"], capture_output=True, check=False)
    for folder in target.folder.glob("cp*"):
        shutil.rmtree(folder, ignore_errors=True)


def _show(milliseconds: int, clients: Sequence[str], usage: dict[tuple[str, str], list[Usage]], rounds: int) -> None:
    head = ["client", "18 tasks, s", "again, s", "one task, s", "CPU s", "peak MiB", "ours takes", "without start and connect"]
    rows = []
    first, _, one = (medians(usage[OURS, what]) for what in ("first", "again", "one"))
    for client in clients:
        its, again, single = (medians(usage[client, what]) for what in ("first", "again", "one"))
        rest = (first.seconds - one.seconds) / max(0.001, its.seconds - single.seconds)
        rows.append([
            NAMES[client], f"{its.seconds:.2f}", f"{again.seconds:.2f}", f"{single.seconds:.2f}", f"{its.cpu:.2f}", f"{its.peak:.0f}",
            "" if client == OURS else f"{first.seconds / its.seconds:.2f} of it", "" if client == OURS else f"{rest:.2f} of it",
        ])  # fmt: skip
    title = f"18 small tasks over {engines.link_name(milliseconds)}; medians of {rounds} interleaved rounds; {machine()}"
    print(f"\n{title}\n\n{table(head, rows)}\n", flush=True)


def _write(folder: Path) -> None:
    """Write the same tasks for each client."""
    (folder / "all.yml").write_text(_playbook())
    (folder / "one.yml").write_text('- hosts: all\n  tasks: [{name: one, command: "true"}]\n')
    (folder / "all.py").write_text(_deploy())
    (folder / "one.py").write_text("from pyinfra.operations import server\nserver.shell(commands=['true'])\n")
    (folder / "all.sh").write_text(_script(all_of_them=True))
    (folder / "one.sh").write_text(_script(all_of_them=False))
    for name, size in _FILES.items():
        (folder / name).write_bytes((os.urandom(48).hex() + "\n").encode() * (size // 97))
    for name, text in _TEMPLATES.items():
        (folder / name).write_text(text)


def _playbook() -> str:
    text = _PLAY
    for name in _FILES:
        text += f'    - {{name: {name}, copy: {{src: {name}, dest: "{{{{ base }}}}/conf.d/{name}", mode: "0644"}}}}\n'
    for name in _TEMPLATES:
        text += f'    - {{name: {name}, template: {{src: {name}, dest: "{{{{ base }}}}/conf.d/{name[:2]}", mode: "0644"}}}}\n'
    for number, name in enumerate(("a.conf", "d.txt")):
        stat = f"stat -c %s {{{{ base }}}}/conf.d/{name}"
        text += f'    - {{name: size {number}, command: "{stat}", register: size{number}, changed_when: false}}\n'
    for number, command in enumerate(_COMMANDS):
        said = command.format(size="{{ size1.stdout }}", base="{{ base }}")
        text += f'    - {{name: command {number}, shell: "{said}", changed_when: false}}\n'
    return text + _LINK


def _deploy() -> str:
    lines = [
        "from pyinfra import host", "from pyinfra.operations import files, server", "base = host.data.base",
        "files.directory(path=base + '/conf.d', mode='755')", "files.directory(path=base + '/logs', mode='755')",
        "server.shell(commands=['mkdir -p ' + base + '/data && echo data >' + base + '/data/name'])",
    ]  # fmt: skip
    lines += [f"files.put(src={name!r}, dest=base + '/conf.d/{name}', mode='644')" for name in _FILES]
    lines += [f"files.template(src={name!r}, dest=base + '/conf.d/{name[:2]}', mode='644', owner='bench', rank=8)" for name in _TEMPLATES]
    lines += [f"server.shell(commands=['stat -c %s ' + base + '/conf.d/{name}'])" for name in ("a.conf", "d.txt")]
    lines += [
        f"server.shell(commands=[{command.format(size='$(stat -c %s {base}/conf.d/d.txt)', base='{base}')!r}.replace('{{base}}', base)])"
        for command in _COMMANDS
    ]
    return "\n".join([*lines, "files.link(path=base + '/current', target=base + '/conf.d')"]) + "\n"


def _script(*, all_of_them: bool) -> str:
    lines = [
        "set -e", 'base=$1 port=$2 user=$3; shift 3', 'on() { ssh "${all[@]}" "$@"; }',
        'all=("$@" -o ControlPath="$PWD/mux-%C" -p "$port" "$user@127.0.0.1")', 'ssh -o ControlMaster=yes -f -N "${all[@]}"',
    ]  # fmt: skip
    if all_of_them:
        lines += ['on "mkdir -p $base/conf.d"', 'on "mkdir -p $base/logs"', 'on "mkdir -p $base/data && echo data >$base/data/name"']
        lines += [f'on "cat >$base/conf.d/{name}" <{name}' for name in _FILES]
        lines += [f'on "cat >$base/conf.d/{name[:2]}" <{name}' for name in _TEMPLATES]
        lines += ['on "stat -c %s $base/conf.d/a.conf"', 'size=$(on "stat -c %s $base/conf.d/d.txt")']
        lines += [f'on "{command.format(size="$size", base="$base")}"' for command in _COMMANDS]
        lines += ['on "ln -sfn $base/conf.d $base/current"']
    else:
        lines += ["on true"]
    return "\n".join([*lines, 'ssh -O exit "${all[@]}" 2>/dev/null']) + "\n"


if __name__ == "__main__":
    main()
