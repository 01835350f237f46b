"""Inventories in each shape, and the patterns that choose among their hosts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainyard.errors import UserError
from trainyard.playbook.hosts.inventory import Inventory
from trainyard.playbook.hosts.patterns import matching
from trainyard.playbook.hosts.sources import read
from trainyard.playbook.values import rendered

INI = """\
lone ansible_port=2201   # not in a group
[web]
web[01:03].example note="two words" count=2 flags="['a', 1]"
[db]
db-a
db-b:2222 ansible_user=anna
[site:children]
web
db
[site:vars]
level = site
count = 1
who = {{ inventory_hostname }}!
[web:vars]
level=web
"""
YAML = """\
all:
  hosts:
    lone: {ansible_port: 2201}
  children:
    site:
      vars: {level: site, count: 1, who: "{{ inventory_hostname }}!"}
      children:
        web:
          vars: {level: web}
          hosts:
            "web[01:03].example": {note: two words, count: 2, flags: [a, 1]}
        db:
          hosts:
            db-a:
            db-b: {ansible_port: 2222, ansible_user: anna}
"""


def inventory_of(folder: Path, name: str, text: str) -> Inventory:
    path = folder / name
    path.write_text(text)
    found = Inventory()
    read(found, [str(path)])
    return found


def values_of(found: Inventory, host: str, folder: Path) -> dict[str, object]:
    variables = {**found.variables(host, folder), "inventory_hostname": host}
    return {name: rendered(value, variables) for name, value in variables.items()}


@pytest.mark.parametrize(("name", "text"), [("hosts", INI), ("hosts.yml", YAML)])
def test_the_same_hosts_come_of_ini_and_yaml(tmp_path: Path, name: str, text: str) -> None:
    found = inventory_of(tmp_path, name, text)
    webs = ["web01.example", "web02.example", "web03.example"]
    assert found.members() == {
        "all": ["lone", *webs, "db-a", "db-b"], "ungrouped": ["lone"], "web": webs, "db": ["db-a", "db-b"],
        "site": [*webs, "db-a", "db-b"],
    }  # fmt: skip
    assert values_of(found, "web02.example", tmp_path) == {
        "level": "web", "count": 2, "who": "web02.example!", "note": "two words", "flags": ["a", 1],
        "inventory_hostname": "web02.example",
    }  # fmt: skip
    own = values_of(found, "db-b", tmp_path)
    assert (own["ansible_port"], own["ansible_user"], own["level"], own["count"]) == (2222, "anna", "site", 1)


def test_files_of_variables_win_in_ansibles_order(tmp_path: Path) -> None:
    (tmp_path / "play").mkdir()
    found = inventory_of(tmp_path, "hosts", "[child]\nh v=host\n[parent:children]\nchild\n[child:vars]\nv=child\n[parent:vars]\nv=parent\n")
    files = [
        "group_vars/all.yml", "play/group_vars/all/x.yml", "group_vars/parent", "group_vars/child.json",
        "play/group_vars/parent.yaml", "play/group_vars/child.yml",
    ]  # fmt: skip
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"v": "{name}"}}')
    found.hosts["h"].clear()
    for name in reversed(files):
        found._files.clear()
        assert values_of(found, "h", tmp_path / "play")["v"] == name
        (tmp_path / name).unlink()
    assert values_of(inventory_of(tmp_path, "hosts", "h v=1\n"), "h", tmp_path)["v"] == 1


def test_a_hosts_own_files_are_stronger_than_those_of_its_groups(tmp_path: Path) -> None:
    for name, value in (("group_vars/g.yml", 1), ("host_vars/h.yml", 3)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"a: {value}\nb: {value}\n")
    (tmp_path / "host_vars/h.yml").write_text("a: 3\n")
    found = inventory_of(tmp_path, "hosts", "[g]\nh a=2 b=2\n")
    assert values_of(found, "h", tmp_path) == {"a": 3, "b": 2, "inventory_hostname": "h"}


def test_priority_decides_between_groups_of_one_depth(tmp_path: Path) -> None:
    text = "[a]\nh\n[b]\nh\n[a:vars]\nv=a\nansible_group_priority=10\n[b:vars]\nv=b\n"
    assert values_of(inventory_of(tmp_path, "hosts", text), "h", tmp_path)["v"] == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[web\nh\n", "hosts:1:1: '[web' is no section"),
        ("h port\n", "hosts:1:1: 'port' is no NAME=VALUE"),
        ("h a='b\n", "hosts:1:1: the line cannot be read"),
        ("[g:kids]\n", "hosts:1:1: a group has ':children' and ':vars', no ':kids'"),
        ("[g:children]\nnone\n", "hosts:2:1: there is no group 'none'"),
        ("[nobody:vars]\na=1\n", "hosts:1:1: there is no group 'nobody'"),
        ("[a]\nh\n[a:children]\nb\n[b:children]\na\n", "hosts:6:1: the group 'a' would be below itself"),
        ("web[3:1]\n", "hosts:1:1: the range [3:1] is empty"),
        ("web[1:99999999999]\n", "hosts:1:1: the range [1:99999999999] is too long"),
        ("-oProxyCommand=x\n", "hosts:1:1: '-oProxyCommand=x' is no name of a host"),
    ],
)
def test_what_is_wrong_in_an_ini_inventory_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        inventory_of(tmp_path, "hosts", text)
    assert f"{tmp_path}/{said}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: {host: {h: }}\n", "hosts.yml:1:7: unknown word of a group 'host' (did you mean 'hosts'?)"),
        ("web: {hosts: [h]}\n", "hosts.yml:1:14: 'hosts': expected a mapping of names"),
        ("web: {hosts: {h: 3}}\n", "hosts.yml:1:15: variables: expected a mapping of names"),
        ("plugin: aws_ec2\n", "hosts.yml:1:1: the inventory plugin 'aws_ec2' is not run"),
        ("a: {children: {b: {children: {a: }}}}\n", "hosts.yml:1:31: the group 'a' would be below itself"),
        ("web: {vars: {x: '{{ '}}\n", "hosts.yml:1:17: broken expression"),
    ],
)
def test_what_is_wrong_in_a_yaml_inventory_is_told_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        inventory_of(tmp_path, "hosts.yml", text)
    assert f"{tmp_path}/{said}" in str(error.value)


def test_a_folder_a_program_and_names_with_commas_are_inventories(tmp_path: Path) -> None:
    folder = tmp_path / "inv"
    folder.mkdir()
    (folder / "a").write_text("[web]\none\n")
    (folder / "b.yml").write_text("db: {hosts: {two: }}\n")
    (folder / "README.md").write_text("nothing\n")
    program = folder / "list.sh"
    listed = {"gpu": {"hosts": ["three"], "vars": {"v": 1}}, "_meta": {"hostvars": {"three": {"w": 2}}}}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(listed)}'\n")
    program.chmod(0o755)
    found = Inventory()
    read(found, [str(folder), "four,five:2222,"])
    assert found.members()["all"] == ["one", "two", "three", "four", "five"]
    assert values_of(found, "three", tmp_path) == {"v": 1, "w": 2, "inventory_hostname": "three"}
    assert values_of(found, "five", tmp_path)["ansible_port"] == 2222


def test_a_program_that_fails_and_a_file_that_is_missing_end_in_a_sentence(tmp_path: Path) -> None:
    program = tmp_path / "list.py"
    program.write_text("#!/bin/sh\necho no key >&2\nexit 3\n")
    with pytest.raises(UserError, match="may not be run"):
        read(Inventory(), [str(program)])
    program.chmod(0o755)
    with pytest.raises(UserError, match="ended with 3: no key"):
        read(Inventory(), [str(program)])
    with pytest.raises(UserError, match="does not exist\nA list of names needs a comma"):
        read(Inventory(), ["gpu1"])
    (tmp_path / "empty").write_text("# none\n")
    with pytest.raises(UserError, match="empty: no host is named"):
        read(Inventory(), [str(tmp_path / "empty")])


GROUPS = {
    "all": ["web1", "web2", "web3", "db1", "db2", "2001:db8::1"], "ungrouped": ["2001:db8::1"], "web": ["web1", "web2", "web3"],
    "db": ["db1", "db2"], "east": ["web1", "db1"], "empty": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("all", "web1 web2 web3 db1 db2 2001:db8::1"),
        ("*", "web1 web2 web3 db1 db2 2001:db8::1"),
        ("db1", "db1"),
        ("web:db", "web1 web2 web3 db1 db2"),
        ("web,db1", "web1 web2 web3 db1"),
        ("web:&east", "web1"),
        ("all:!web:!ungrouped", "db1 db2"),
        ("!web,!2001:db8::1", "db1 db2"),
        ("web*:!web2", "web1 web3"),
        ("~(web|db)1", "web1 db1"),
        ("~^d.,!db2", "db1"),
        ("web[0]", "web1"),
        ("web[-1]", "web3"),
        ("web[0:1]", "web1 web2"),
        ("web[1:]", "web2 web3"),
        ("web[9]", ""),
        ("web[12]:db", "db1 db2"),
        ("web[12]*", "web1 web2"),
        ("2001:db8::1", "2001:db8::1"),
        ("empty", ""),
        ("db2,db1,db2", "db2 db1"),
    ],
)
def test_a_pattern_names_hosts_as_ansibles_do(pattern: str, hosts: str) -> None:
    assert matching([pattern], GROUPS) == hosts.split()


def test_names_of_hexadecimal_letters_are_no_address() -> None:
    groups = {"all": ["a", "b", "c1", "::1"], "d": ["a"]}
    assert (
        matching(["a:b:c1"], groups) == ["a", "b", "c1"] and matching(["a:b:!d"], groups) == ["b"] and matching(["::1"], groups) == ["::1"]
    )
    with pytest.raises(UserError, match="no group 'e'"):
        matching(["a:b:e"], groups)


def test_a_name_that_is_neither_host_nor_group_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"there is no host and no group 'wep1' \(did you mean 'web1'\?\)\nThere are: web1, web2"):
        matching(["all:!wep1"], GROUPS)
    with pytest.raises(UserError, match="no regular expression"):
        matching(["~("], GROUPS)


def test_a_file_of_names_is_a_limit(tmp_path: Path) -> None:
    (tmp_path / "retry").write_text("web2\n\n# no\ndb1\n")
    assert matching([f"@{tmp_path}/retry"], GROUPS) == ["web2", "db1"]
