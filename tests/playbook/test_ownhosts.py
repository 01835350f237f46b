"""Hosts of one's own, reached as ssh_config, known_hosts and ssh-agent say, over a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.remote import sshd
from trainyard.playbook.__main__ import main
from trainyard.remote import keyring
from trainyard.remote.keys import new_ssh_key

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="no OpenSSH client")
PLAY = """\
- hosts: all
  tasks:
    - command: sh -c 'echo of $HOME'
      register: r
    - debug: {msg: "{{ inventory_hostname }}: {{ r.stdout }}"}
"""

Play = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sshd.Server, sshd.Server]]:
    """Two servers: a gate and what is behind it."""
    both = sshd.start(tmp_path_factory.mktemp("gate")), sshd.start(tmp_path_factory.mktemp("box"))
    yield both
    for each in both:
        each.stop()


@pytest.fixture
def play(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Play:
    """Run a playbook with an ssh_config of the test's own; returns code, output and errors."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(keyring, "_OPENED", {})
    (tmp_path / "play.yml").write_text(PLAY)

    def run(config: str, *options: str) -> tuple[int, str, str]:
        (tmp_path / "config").write_text(config)
        code = main([str(tmp_path / "play.yml"), "--ssh-config", str(tmp_path / "config"), *options])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def known(server: sshd.Server) -> str:
    return f"[127.0.0.1]:{server.address.port} {server.address.host_key}\n"


def block(name: str, server: sshd.Server, folder: Path, **more: str) -> str:
    said = {
        "HostName": "127.0.0.1", "Port": server.address.port, "User": server.address.user, "IdentityFile": server.folder / "key",
        "UserKnownHostsFile": folder / "known_hosts", **more,
    }  # fmt: skip
    return f"Host {name}\n" + "".join(f"  {key} {value}\n" for key, value in said.items())


def test_a_host_of_ssh_config_is_reached_by_its_alias(play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(known(servers[1]))
    (tmp_path / "more").write_text(block("gpu*", servers[1], tmp_path))
    code, out, err = play(f"Include {tmp_path}/more\n", "--host", "gpu1")
    assert (code, err) == (0, ""), (out, err)
    assert f"gpu1: of {servers[1].folder}" in out


def test_jump_hosts_are_gone_through_one_after_the_other(play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path) -> None:
    gate, box = servers
    (tmp_path / "known_hosts").write_text(known(gate) + known(box))
    config = block("gate", gate, tmp_path) + block("gate2", gate, tmp_path) + block("box", box, tmp_path, ProxyJump="gate,gate2")
    code, out, err = play(config, "--host", "box")
    assert (code, err) == (0, ""), (out, err)
    # Ansible's way to say the same, in an inventory.
    (tmp_path / "hosts").write_text("inner ansible_host=box ansible_ssh_common_args='-J gate'\n")
    code, out, err = play(block("gate", gate, tmp_path) + block("box", box, tmp_path), "--inventory", str(tmp_path / "hosts"))
    assert (code, err) == (0, ""), (out, err)
    assert f"inner: of {box.folder}" in out


def test_a_proxy_command_leads_there(play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path) -> None:
    gate, box = servers
    (tmp_path / "known_hosts").write_text(known(gate) + known(box))
    proxy = f"ssh -F {tmp_path}/config -W %h:%p gate"
    code, out, err = play(block("gate", gate, tmp_path) + block("box", box, tmp_path, ProxyCommand=proxy), "--host", "box")
    assert (code, err) == (0, ""), (out, err)
    code, out, err = play(block("box", box, tmp_path, ProxyCommand="sh -c 'echo no road >&2; exit 1'"), "--host", "box")
    assert code == 5 and "cannot be reached (no road)" in out, (out, err)


def test_an_unknown_host_key_is_refused_with_the_line_that_adds_it(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path
) -> None:  # fmt: skip
    box = servers[1]
    config = block("box", box, tmp_path)
    code, out, _ = play(config, "--host", "box")
    line = f"echo '{known(box).strip()}' >>{tmp_path}/known_hosts"
    assert code == 5 and "which known_hosts do not tell" in out and line in out, out
    assert "DOING IT AGAIN" not in out and "tried" not in out, out
    subprocess.run(["sh", "-c", line], check=True)
    assert play(config, "--host", "box")[0] == 0


def test_known_hosts_may_be_hashed(play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text(known(servers[1]))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(tmp_path / "known_hosts")], check=True, capture_output=True)
    assert "127.0.0.1" not in (tmp_path / "known_hosts").read_text()
    assert play(block("box", servers[1], tmp_path), "--host", "box")[0] == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[127.0.0.1]:{port} {other}", "which is not the one that known_hosts tell"),
        ("@revoked * {key}", "which known_hosts call revoked"),
        ("@cert-authority * {other}", "only by an authority's signature, which is not checked here"),
    ],
)
def test_another_a_revoked_and_a_certified_host_key_are_refused(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path, line: str, said: str
) -> None:  # fmt: skip
    box = servers[1]
    other = new_ssh_key()[1]
    (tmp_path / "known_hosts").write_text(line.format(port=box.address.port, key=box.address.host_key, other=other) + "\n")
    code, out, err = play(block("box", box, tmp_path, StrictHostKeyChecking="no" if "@" not in line else "yes"), "--host", "box")
    assert code == 5 and said in out, (out, err)


def test_a_new_key_is_written_down_where_ssh_config_accepts_it(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path
) -> None:  # fmt: skip
    box = servers[1]
    config = block("box", box, tmp_path, StrictHostKeyChecking="accept-new")
    code, out, err = play(config, "--host", "box")
    assert code == 0 and "is written down" in err, (out, err)
    assert (tmp_path / "known_hosts").read_text() == known(box)
    assert play(config, "--host", "box")[2] == ""
    (tmp_path / "known_hosts").unlink()
    (tmp_path / "hosts").write_text("box ansible_ssh_common_args='-o StrictHostKeyChecking=no'\n")
    code, out, err = play(block("box", box, tmp_path), "--inventory", str(tmp_path / "hosts"))
    assert code == 0 and "StrictHostKeyChecking=no is taken for accept-new" in err, (out, err)
    assert (tmp_path / "known_hosts").read_text() == known(box)


def test_a_key_with_a_passphrase_is_taken_of_the_agent_asked_for_once_or_refused(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    gate, box = servers
    (tmp_path / "known_hosts").write_text(known(gate) + known(box))
    locked = tmp_path / "locked"
    shutil.copy(box.folder / "key", locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-f", locked, "-P", "", "-N", "open sesame"], check=True, capture_output=True)
    with (gate.folder / "authorized_keys").open("a") as file:
        file.write((box.folder / "authorized_keys").read_text())
    config = block("box", box, tmp_path, IdentityFile=str(locked)) + block("gate", gate, tmp_path, IdentityFile=str(locked))
    code, out, err = play(config, "--host", "box")
    assert code == 2 and "has a passphrase, and there is no terminal to ask for it" in out, (out, err)

    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "open sesame"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", answer)
    code, out, err = play(config, "--host", "box", "--host", "gate")
    assert (code, asked) == (0, [f"Passphrase of {locked}: "]), (out, err)

    monkeypatch.setattr(keyring, "_OPENED", {})
    agent = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL)
    try:
        while not agent.exists():
            assert process.poll() is None
        env = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
        subprocess.run(["ssh-add", "-q", box.folder / "key"], check=True, env=env, capture_output=True)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        code, out, err = play(config, "--host", "box")
        assert (code, len(asked)) == (0, 1), (out, err)
    finally:
        process.terminate()
        process.wait(10)


def test_no_key_that_is_taken_ends_in_what_to_do(play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path) -> None:
    box = servers[1]
    (tmp_path / "known_hosts").write_text(known(box))
    (tmp_path / "other").write_text(new_ssh_key()[0])
    (tmp_path / "other").chmod(0o600)
    code, out, err = play(block("box", box, tmp_path, IdentityFile=str(tmp_path / "other")), "--host", "box")
    assert code == 5 and f"takes none of the keys ({tmp_path}/other). A key is put there by: ssh-copy-id box" in out, (out, err)
    code, out, err = play(block("box", box, tmp_path, IdentityFile=str(tmp_path / "none")), "--host", "box")
    assert code == 5 and "there is no key to log in with" in out, (out, err)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("box ansible_password=x", "hosts:1:1: box: 'ansible_password' is not supported: passwords are not asked for"),
        ("box ansible_connection=docker", "hosts:1:1: box: there is no connection 'docker', there are ssh and local"),
        ("box ansible_port=high", "hosts:1:1: box: 'high' is no port"),
        ("box ansible_ssh_common_args='-L 1:a:2'", "box: ansible_ssh_common_args: '-L' has no meaning for a playbook"),
        ("box ansible_host=-oProxyCommand=x", "'-oProxyCommand=x' is no name of a host"),
    ],
)
def test_a_way_that_cannot_be_had_is_refused_by_name(play: Play, tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "hosts").write_text(line + "\n")
    code, out, err = play("", "--inventory", str(tmp_path / "hosts"))
    assert code == 2 and said in err + out, (out, err)


def test_an_inventory_that_says_become_has_nothing_run_as_the_logins_user(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path
) -> None:  # fmt: skip
    box = servers[1]
    (tmp_path / "known_hosts").write_text(known(box))
    (tmp_path / "hosts").write_text("box ansible_become=yes ansible_become_method=doas ansible_become_user=nobody\n")
    tasks = "".join(f"    - shell: id -un >>{tmp_path}/ran\n" for _ in range(3))
    (tmp_path / "play.yml").write_text(f"- hosts: all\n  tasks:\n{tasks}")
    code, out, err = play(block("box", box, tmp_path), "--inventory", str(tmp_path / "hosts"))
    assert code == 2 and "does not lead to the user" in out, out + err
    assert not (tmp_path / "ran").exists()


def test_a_login_is_what_variables_say_then_the_play_then_the_command_line(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path
) -> None:  # fmt: skip
    box = servers[1]
    (tmp_path / "known_hosts").write_text(known(box))
    config = block("box", box, tmp_path, Port="1")

    def run(words: str, *options: str) -> tuple[int, str]:
        (tmp_path / "play.yml").write_text(f"- hosts: all\n  {words}\n  tasks: [{{command: 'true'}}]\n")
        code, out, err = play(config, *options)
        return code, out + err

    here = ("--host", "box")
    code, out = run(f"port: {box.address.port}", *here)
    assert code == 0, out
    assert run("name: p", "-e", f"ansible_port={box.address.port}", *here)[0] == 0
    for words, options, user in (
        ("remote_user: anna", here, "anna"),
        ("remote_user: '{{ who }}'", (*here, "-e", "who=bert", "--user", "carl"), "bert"),
        ("name: p", (*here, "--user", "carl"), "carl"),
        ("remote_user: anna", ("--host", "dora@box"), "dora"),
        ("remote_user: anna", (*here, "-e", "ansible_user=emil"), "emil"),
        ("vars: {ansible_user: '{{ one }}', one: fred}", ("--host", "dora@box", "--user", "carl"), "fred"),
        ("vars: {ansible_user: fred}", (*here, "-e", "ansible_user=emil"), "emil"),
    ):
        code, out = run(words, *options)
        assert code == 5 and f"({user}@127.0.0.1:1)" in out, out


def test_each_play_logs_in_as_it_says_and_what_one_says_holds_for_no_other(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path
) -> None:  # fmt: skip
    one, two = servers
    (tmp_path / "known_hosts").write_text(known(one) + known(two))
    homes = "  tasks: [{command: 'sh -c \"echo at $HOME\"'}]\n"
    words = [f"  port: {each.address.port}\n  vars: {{ansible_ssh_private_key_file: {each.folder}/key}}\n" for each in servers]
    (tmp_path / "play.yml").write_text("".join(f"- hosts: box\n{said}{homes}" for said in (*words, "")))
    config = block("box", two, tmp_path, Port="1")
    code, out, err = play(config, "--host", "box", "-v")
    seen = [line.rpartition(" ")[2] for line in out.splitlines() if "stdout: at" in line]
    assert (code, seen) == (5, [str(one.folder), str(two.folder)]) and "@127.0.0.1:1)" in out, out + err


def test_become_of_the_command_line_holds_where_nothing_else_is_said(
    play: Play, servers: tuple[sshd.Server, sshd.Server], tmp_path: Path
) -> None:  # fmt: skip
    box = servers[1]
    (tmp_path / "known_hosts").write_text(known(box))
    tasks = f"[{{shell: echo a >>{tmp_path}/ran, become: false}}, {{shell: echo b >>{tmp_path}/ran}}]"
    (tmp_path / "play.yml").write_text(f"- hosts: all\n  tasks: {tasks}\n")
    other = ("-e", "ansible_become_user=nobody", "-e", "ansible_become_method=doas")
    code, out, err = play(block("box", box, tmp_path), "--host", "box", "--become", *other)
    assert code == 2 and "does not lead to the user" in out, out + err
    assert (tmp_path / "ran").read_text() == "a\n"
