"""What expressions of playbooks mean, held against what ansible-core answered (``ansible_values.json``, made by ``record_values.py``)."""

from __future__ import annotations

import datetime
import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.playbook import fuzzed
from trainyard import yamlfile
from trainyard.errors import UserError
from trainyard.playbook.expressions import SEARCHED, render_template
from trainyard.playbook.natives import OMIT
from trainyard.playbook.values import Condition, Text, compile_condition, compile_value, guarded_names, names_in
from trainyard.secret import hide
from trainyard.yamltags import Octal

RECORD = json.loads((Path(__file__).parent / "ansible_values.json").read_text())
FILES = {
    "files/a.txt": "hello\nworld\n\n", "b.txt": "top", "files/x.csv": "k1,v1\nk2,v2\n",
    "files/x.ini": "[global]\na=1\nB=2\n[s]\nc=%(d)s\nd=4\n",
    "templates/y.j2": "x={{ n }}\n", "y.inc": "inc {{ n }}\n", "m.inc": "{% macro f(a) %}<{{ a }}>{% endmacro %}\n",
    "base.inc": "A{% block b %}{% endblock %}Z\n",
}  # fmt: skip


def shape(value: Any) -> list[Any]:
    """Return a value with its type, as the record has it."""
    if value is OMIT:
        return ["omit"]
    if isinstance(value, dict):
        return ["dict", [[shape(key), shape(item)] for key, item in value.items()]]
    if isinstance(value, list):
        return ["list", [shape(item) for item in value]]
    if isinstance(value, float):
        return ["float", repr(value)]
    if isinstance(value, Octal):
        return ["int", int(value)]
    return [type(value).__name__, str(value) if isinstance(value, datetime.datetime) else value]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def value(text: str, **variables: Any) -> Any:
    return compile_value(yamlfile.parse(text, "x.yml", rules="1.1"), None).render(variables)


def answer(kind: str, text: str, variables: dict[str, Any], folder: Path) -> list[Any]:
    try:
        if kind == "condition":
            return ["bool", compile_condition(text, None).holds(variables)]
        if kind == "file":
            (folder / "t.j2").write_bytes(text.encode())
            return shape(render_template(folder / "t.j2", variables))
        return shape(compile_value(text, None).render(variables))
    except UserError:
        return ["error"]


def test_an_expression_means_what_it_means_to_ansible(folder: Path) -> None:
    variables: dict[str, Any] = {name: compile_value(yamlfile.parse(json.dumps(item), name), None) for name, item in RECORD["vars"].items()}
    variables[SEARCHED] = (folder,)
    wrong = {}
    for kind, text, expected in RECORD["cases"]:
        ours = answer(kind, text, variables, folder)
        if (ours == expected or expected == ["any"]) == (f"{kind} {text}" in RECORD["differences"]):
            wrong[kind, text] = (ours, expected)
    assert wrong == {}


def test_a_variable_of_a_mapping_is_rendered_when_it_is_read() -> None:
    variables = {"d": compile_value(yamlfile.parse("{base: /x, sub: '{{ d.base }}/y', later: '{{ nowhere }}'}", "x.yml"), None)}
    assert value('"{{ d.sub }}"', **variables) == "/x/y"
    with pytest.raises(UserError, match="'nowhere' is undefined"):
        value('"{{ d }}"', **variables)


@pytest.mark.parametrize("text", ["{a: '{{ b }}', b: '{{ a }}'}", "{a: '{{ a }}'}", "{a: {x: '{{ a.x }}'}}", "{a: {x: '{{ a }}'}}"])
def test_a_variable_that_is_defined_by_itself_is_told(text: str) -> None:
    node = yamlfile.parse(text, "x.yml")
    assert isinstance(node, yamlfile.Map)
    variables = {name: compile_value(item, node.where(name)) for name, item in node.items()}
    with pytest.raises(UserError, match="is defined by itself"):
        value('"{{ a }}"', **variables)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ x | jsonquery }}", "there is no filter 'jsonquery'"),
        ("{{ x | json_query('a') }}", "the filter 'json_query' is not there: use selectattr"),
        ("{{ x | combin }}", "did you mean 'combine'"),
        ("{{ x is finished }}", "the test 'finished' is not there: there is no 'async'"),
        ("{{ lookup('password', '/dev/null') }}", "the lookup 'password' is not there: keep the password"),
        ("{{ lookup('fil', 'x') }}", "did you mean 'file'"),
        ("{{ lookup('file', '{{ x }}/y') }}", "braces inside of an expression"),
    ],
)
def test_what_is_not_there_is_refused_when_the_playbook_is_loaded(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        compile_value(text, None)


def test_a_number_in_a_condition_is_no_answer() -> None:
    with pytest.raises(UserError, match=r"the condition 'n' is 1, which is neither true nor false: write '... \| bool'"):
        compile_condition("n", None).holds({"n": 1})


def test_scalars_of_a_playbook_are_those_of_ansible() -> None:
    text = "[yes, No, on, OFF, y, 0644, 1e-4, 1.5e3, 1.5e+3, 1_000, 0o17, 0x1f, 0b11, 2024-01-02, ~, .5, '0644', 3.10]"
    assert yamlfile.parse(text, "x.yml", rules="1.1") == [
        True, False, True, False, "y", 420, "1e-4", "1.5e3", 1500.0, 1000, "0o17", 31, 3, "2024-01-02", None, 0.5, "0644", 3.1,
    ]  # fmt: skip
    mode = yamlfile.parse("0644", "x.yml", rules="1.1")
    assert isinstance(mode, Octal) and mode.written == "0644"
    with pytest.raises(UserError, match="'12:30' is a number to base 60"):
        yamlfile.parse("at: 12:30", "x.yml", rules="1.1")


def test_merge_keys_give_what_is_not_said_again() -> None:
    node = yamlfile.parse("base: &b {a: 1, b: 2}\nother: &o {b: 3, c: 4}\nit: {<<: [*b, *o], a: 5}\n", "x.yml", rules="1.1")
    assert isinstance(node, yamlfile.Map) and node["it"] == {"a": 5, "b": 2, "c": 4}
    with pytest.raises(UserError, match="'<<' takes a mapping"):
        yamlfile.parse("it: {<<: 3}", "x.yml", rules="1.1")


def test_a_text_that_is_marked_unsafe_is_no_template() -> None:
    assert value("!unsafe '{{ x }}'") == "{{ x }}"


def test_a_key_of_the_environment_is_taken_out_of_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADE_UP_API_KEY", "sk-made-up-for-a-test")
    assert value("\"{{ lookup('env', 'MADE_UP_API_KEY') }}\"") == "sk-made-up-for-a-test"
    assert hide("it is sk-made-up-for-a-test") == "it is ***"


def test_names_are_those_that_must_be_there() -> None:
    text = compile_value("{{ a + b | default(c) }}{{ lookup('env', d) }}{{ omit }}", None)
    assert isinstance(text, Text) and {name for name, _ in names_in(text)} == {"a", "c", "d"} and guarded_names(text) == {"b"}
    assert isinstance(condition := compile_condition("{{ x.y }}", None), Condition) and {name for name, _ in names_in(condition)} == {"x"}


def test_nothing_is_worked_out_while_names_are_looked_for() -> None:
    began = time.process_time()
    assert [name for name, _ in names_in(compile_value("{{ ('a' * 40 ~ '!') | regex_search('^(a+)+$') ~ 10 ** 5000 ~ x }}", None))] == ["x"]
    assert time.process_time() - began < 5


_ITEMS = "a list of more than 1000000 items is none that is meant"
_LETTERS = "a text of more than 100000000 letters is none that is meant"
_STEPS = "it does not end within 4000000 steps: too many items in its loops, or calls"
_WIDTH = "no width, size or number of digits is above 1000000"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ 10 ** 5000 }}", "a whole number of more than 400 digits is none that is meant"),
        ("{{ 'a' * 10 ** 18 }}", _LETTERS),
        ("{{ [1] * 10 ** 9 }}", _ITEMS),
        ("{% for i in range(10 ** 18) %}x{% endfor %}", _ITEMS),
        ("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}", _STEPS),
        ("{{ range(10 ** 4) | product(range(10 ** 4)) | length }}", _ITEMS),
        ("{{ lipsum(n=10 ** 9) }}", _LETTERS),
        ("{{ query('sequence', 'end=9999999999') }}", _ITEMS),
        ("{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", _LETTERS),
        ("{{ ('a' * 10 ** 6).replace('a', 'b' * 10 ** 6) }}", _LETTERS),
        ("{{ ('a' * 10 ** 5) | regex_replace('a', 'b' * 10 ** 5) }}", _LETTERS),
        ("{{ (['x'] * 10 ** 5) | join('a' * 10 ** 6) }}", _LETTERS),
        ("{{ 'a'.center(10 ** 10) }}", _WIDTH),
        ("{{ 'a' | center(10 ** 10) }}", _WIDTH),
        ("{{ 5 | round(-10 ** 9) }}", _WIDTH),
        ("{{ '{:{}}'.format(1, 10 ** 10) }}", _WIDTH),
        ("{{ '%09999999d' % 1 }}", "no width of a format is above 1000000"),
        ("{{ big40 }}", _LETTERS),
    ],
)
def test_what_would_not_end_or_fit_is_refused_in_a_sentence(text: str, said: str) -> None:
    variables: dict[str, Any] = {f"big{i}": compile_value(f"{{{{ big{i - 1} }}}}{{{{ big{i - 1} }}}}", None) for i in range(1, 41)}
    with pytest.raises(UserError) as caught:
        compile_value(text, None).render({"big0": "x" * 10, **variables})
    assert caught.value.message == f"the expression cannot be evaluated: {said}"


def test_what_is_not_too_much_is_done() -> None:
    text = "{{ range(10 ** 6) | length }} {{ 2 ** 64 }} {{ [1] + [2] }} {{ '%05d' % 3 }} {{ ['a', 'b'] | join('-') }}"
    assert compile_value(text, None).render({}) == "1000000 18446744073709551616 [1, 2] 00003 a-b"


def test_lookups_read_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/here")
    here = {SEARCHED: (folder,)}
    assert value("\"{{ lookup('env', 'PLACE', 'NOTHING_LIKE_IT') }}\"") == "/here,"
    assert [os.path.basename(path) for path in value("\"{{ query('fileglob', 'x.*') }}\"", **here)] == ["x.csv", "x.ini"]
    with pytest.raises(UserError, match=r"there is no file 'nope' in"):
        value("\"{{ lookup('file', 'nope') }}\"", **here)


def test_a_password_is_hashed_as_shadow_has_it() -> None:
    assert value("\"{{ 'x' | password_hash('sha512', 'saltsalt') }}\"").startswith("$6$saltsalt$8RWsOfwR6M6P")
    assert value("\"{{ 'x' | password_hash }}\"") != value("\"{{ 'x' | password_hash }}\"")
    with pytest.raises(UserError, match="leave 'rounds' out"):
        value("\"{{ 'x' | password_hash('sha512', rounds=5000) }}\"")


def test_any_template_means_something_or_is_refused_in_a_sentence(tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    came = [fuzzed.attempt(random.Random(f"{seed}:{number}"), tmp_path) for number in range(200)]
    assert 0 < sum(" refused: " in answer for answer in came) < 200, f"seed {seed}"


def test_data_stay_what_they_are_on_their_way_through_templates() -> None:
    seed = time.time_ns() % 1_000_000
    chance = random.Random(seed)
    for _ in range(100):
        known = {"x": fuzzed.data(chance)}
        for way in (
            "x",
            "x | to_json | from_json",
            "x | to_nice_json | from_json",
            "x | to_yaml | from_yaml",
            "x | to_nice_yaml | from_yaml",
        ):
            assert compile_value("{{ " + way + " }}", None).render(known) == known["x"], (seed, way, known)


def test_a_text_that_is_quoted_goes_through_a_shell_as_it_is(tmp_path: Path) -> None:
    seed = time.time_ns() % 1_000_000
    chance = random.Random(seed)
    texts = ["", *(fuzzed.text(chance, 30) for _ in range(200))]
    command = compile_value("printf '%s\\0' {{ texts | map('quote') | join(' ') }}", None).render({"texts": texts})
    done = subprocess.run(["sh", "-c", str(command)], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == texts, f"seed {seed}"
