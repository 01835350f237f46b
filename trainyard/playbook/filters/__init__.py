"""Filters and tests that expressions of playbooks know beside Jinja's own; meaning and names as Ansible's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainyard.playbook.filters import data, paths, questions, sets, texts

FILTERS: Mapping[str, Callable[..., Any]] = {**data.FILTERS, **paths.FILTERS, **sets.FILTERS, **texts.FILTERS}
TESTS: Mapping[str, Callable[..., bool]] = questions.TESTS
INSTEAD: Mapping[str, str] = {
    "json_query": "use selectattr, map, dict2items or an expression like 'a.b[0].c'",
    "community.general.json_query": "use selectattr, map, dict2items or an expression like 'a.b[0].c'",
    "community.general.dict": "use items2dict",
    "community.general.dict_kv": "write the mapping: {'key': value}",
    "community.general.groupby_as_dict": "use groupby, or items2dict",
    "community.general.lists_mergeby": "use combine for each item of a loop",
    "community.general.from_csv": "use lookup('csvfile', ...)",
    "community.general.version_sort": "use the test 'version'",
    "community.general.random_mac": "write the address",
    "community.general.jc": "use regex_search or from_json on the output",
    "community.general.keep_keys": "use dict2items, selectattr and items2dict",
    "community.general.remove_keys": "use dict2items, rejectattr and items2dict",
    "ansible.utils.ipaddr": "use regex_search",
    "ansible.netcommon.ipaddr": "use regex_search",
    "ipaddr": "use regex_search",
    "win_basename": "there is no Windows here: use basename",
    "win_dirname": "there is no Windows here: use dirname",
    "win_splitdrive": "there is no Windows here",
    "vault": "use 'ansible-vault encrypt_string', and !vault in the file",
    "unvault": "use !vault in the file, which is read by itself",
    "vaulted_file": "vars_files that are encrypted are read by themselves",
    "finished": "there is no 'async': ask the 'job' action for its 'state'",
    "started": "there is no 'async': ask the 'job' action for its 'state'",
    "timedout": "there is no 'async': ask the 'job' action for its 'state'",
}
"""What people know from elsewhere, and what to write here."""
