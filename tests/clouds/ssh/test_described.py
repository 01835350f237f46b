"""What a person says of their machines, and what is sent to them."""

from __future__ import annotations

import ast
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainyard.clouds.ssh.hosts import hosts_of, machines_of
from trainyard.clouds.ssh.packed import needed
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.sshlogin import SshLogin, parse_login

ROOT = Path(__file__).resolve().parents[3]


def hosts(folder: Path, text: str, stack: str = "ssh") -> None:
    (folder / f"Pulumi.{stack}.yaml").write_text(f"config:\n  trainyard:cloud: ssh\n  trainyard:hosts: {text}\n")


def test_a_name_is_one_of_ssh_config_and_a_block_says_what_that_does_not(tmp_path: Path) -> None:
    hosts(tmp_path, "[gpu1, {name: lab, address: 10.0.0.5, user: anna, port: 2222, jump: 'a@gate:22', gpus: [1, 3], price: 0.4}]")
    plain, block = hosts_of(tmp_path)
    assert plain.login == SshLogin(name="gpu1") and plain.gpus is None
    assert (block.gpus, block.price, block.login.jump) == ((1, 3), 0.4, "a@gate:22")
    words = block.login.words()
    assert words[-2:] == ["--", "lab"] and "HostName=10.0.0.5" in words and "StrictHostKeyChecking=yes" in words


def test_the_hosts_of_all_stacks_are_one_account(tmp_path: Path) -> None:
    hosts(tmp_path, "[gpu1, gpu2]")
    hosts(tmp_path, "[gpu2, gpu3]", "lab")
    assert [host.name for host in hosts_of(tmp_path)] == ["gpu2", "gpu3", "gpu1"]
    hosts(tmp_path, "[{name: gpu2, port: 22}]", "lab")
    with pytest.raises(UserError, match="another one than in another stack's file"):
        hosts_of(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[{address: 10.0.0.5}]", "'name' is missing"),
        ("[{name: a, prot: 22}]", r"unknown key 'prot' \(did you mean 'port'\?\)"),
        ("['-oProxyCommand=x']", "hosts: name must look like gpu1"),
        ("[{name: a, jump: '-J x'}]", "must look like anna@gate"),
        ("[{name: a, jump: 'g,-oX'}]", "must look like anna@gate"),
        ("[a, a]", "'a' is there twice"),
    ],
)
def test_what_is_no_machine_is_refused(text: str, says: str, tmp_path: Path) -> None:
    hosts(tmp_path, text)
    with pytest.raises(UserError, match=says):
        hosts_of(tmp_path)


def test_where_no_machine_is_named_and_none_has_joined_that_is_said(tmp_path: Path) -> None:
    hosts(tmp_path, "[]")
    with pytest.raises(UserError, match="no machine is named"):
        machines_of(places(tmp_path, {}))


def test_a_login_is_read_back_from_its_text_and_nothing_else_is() -> None:
    anna = SshLogin(name="lab", address="::1", user="DOM\\anna", port=22, key_file="~/a key%", jump="b@c:1,d", config="/x", accept_new=True)
    assert parse_login(anna.url) == anna
    assert parse_login(SshLogin(name="a").url) == SshLogin(name="a")
    with pytest.raises(UserError):
        parse_login(replace(anna, user="anna b").url)
    for odd in (
        "",
        "gpu1",
        "http://gpu1",
        "ssh://-oX",
        "ssh://a/b",
        "ssh://a?proxy=x",
        "ssh://a?jump=-oX",
        "ssh://a?jump=g%2C-oX",
        "ssh://a?jump=b c",
        "ssh://a:x",
    ):
        with pytest.raises(UserError):
            parse_login(odd)


def test_all_is_sent_that_the_agent_loads_and_an_older_python_can_read_it() -> None:
    loaded: set[str] = set()

    # The supervisor's own modules find each other by their bare names.
    known = {"trainyard", *sys.stdlib_module_names, *(path.stem for path in (ROOT / "trainyard/clouds/local").glob("*.py"))}

    def visit(name: str) -> None:
        path = ROOT / f"{name.replace('.', '/')}.py"
        if name in loaded or not path.exists():
            return
        loaded.add(name)
        tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
        for module in _loaded(tree):
            visit(module)
            assert module.partition(".")[0] in known, f"{name} needs {module}, which no machine need have"

    visit("trainyard.clouds.ssh.agent")
    assert {name.removeprefix("trainyard.").replace(".", "/") for name in loaded} == needed()
    ast.parse((ROOT / "trainyard/clouds/ssh/loader.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def _loaded(tree: ast.AST) -> list[str]:
    """Return what a module imports when it is loaded: not what its functions do, nor what only types need."""
    names: list[str] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom):
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            names += _loaded(ast.Module(node.orelse, []))
        elif not isinstance(node, ast.FunctionDef):
            names += _loaded(node)
    return names
