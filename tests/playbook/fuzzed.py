"""Random expressions, conditions and template files of playbooks: whatever they are, they mean something or are refused in a sentence.

``python -m tests.playbook.fuzzed --cases N --seed S`` tries many.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard import yamlfile
from trainyard.errors import UserError
from trainyard.playbook.expressions import SEARCHED, jinja_environment, render_template
from trainyard.playbook.lookups import LOOKUPS
from trainyard.playbook.natives import OMIT
from trainyard.playbook.values import Literal, compile_condition, compile_value

LETTERS = string.ascii_letters + string.digits + " \t\n\"'\\{}%#|.:,[]()~-_$&;<>*?é漢\u2028\x07"
NOT_TRIED = {"password_hash", "pprint", "urlize", "random", "shuffle", "filesizeformat"}
_PIECES = (*"|([0\n'\"\\-", "{{", "}}", "{%", "%}", "{#", "#}", "if", "for x in l", "endif", "x.y", "is", "not")


def text(chance: random.Random, most: int = 12) -> str:
    """Return a text of any letters."""
    return "".join(chance.choice(LETTERS) for _ in range(chance.randrange(most)))


def data(chance: random.Random, depth: int = 3) -> Any:
    """Return data as JSON knows them."""
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return [data(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 7:
        return {text(chance, 6): data(chance, depth - 1) for _ in range(chance.randrange(4))}
    return chance.choice(
        [None, True, False, chance.randrange(-9, 99), chance.random() * 10, text(chance), text(chance), "yes", "12:30", "0644"]
    )


def _literal(chance: random.Random) -> str:
    return chance.choice(
        [json.dumps(text(chance)), str(chance.randrange(-3, 30)), "1.5", "[]", "{}", "[1, 'a']", "{'a': 1}", "none", "true", "omit"]
    )


def expression(chance: random.Random, depth: int = 3) -> str:
    """Return an expression that Jinja can mostly read."""
    if not depth:
        return str(chance.choice([*"abcdefg", "nowhere", "a.b.c", "d['x']", "lazy", "loops", _literal(chance)]))
    inside = expression(chance, depth - 1)
    match chance.randrange(9):
        case 0 | 1 | 2:
            name = chance.choice(sorted(set(jinja_environment().filters) - NOT_TRIED))
            words = ", ".join(expression(chance, 0) for _ in range(chance.choice([0, 0, 1, 1, 2, 3])))
            return f"{inside} | {name}" + (f"({words})" if words else "")
        case 3:
            name = chance.choice(sorted(jinja_environment().tests))
            return f"({inside} is {name}{chance.choice(['', f'({expression(chance, 0)})'])})"
        case 4:
            return f"({inside} {chance.choice(['+', '-', '~', '==', 'in', 'and', 'or', '<', '//', '%'])} {expression(chance, 0)})"
        case 5:
            return f"{inside}.{chance.choice(['x', '0', 'items()', 'keys()', 'split()', 'nothing', '__class__'])}"
        case 6:
            return f"[{inside}, {expression(chance, 0)}][{chance.choice(['0', '1', '-1', ':1', '9', 'a'])}]"
        case 7:
            name = chance.choice(sorted(set(LOOKUPS) - {"pipe", "lines"}))
            return f"lookup('{name}', {inside})"
        case _:
            return f"({inside} if {expression(chance, 0)} else {expression(chance, 0)})"


def template(chance: random.Random) -> str:
    """Return a text with Jinja in it, or what looks like it."""
    match chance.randrange(6):
        case 0 | 1:
            return "{{ " + expression(chance) + " }}"
        case 2:
            return text(chance) + "{{ " + expression(chance, 2) + " }}" + text(chance)
        case 3:
            return "{% for x in " + expression(chance, 1) + " %}{{ x }}" + text(chance) + "{% endfor %}\n"
        case 4:
            return "{% if " + expression(chance, 2) + " %}" + text(chance) + "{% else %}{{ " + expression(chance, 1) + " }}{% endif %}"
        case _:
            return "".join(chance.choice(_PIECES) + text(chance, 3) for _ in range(chance.randrange(1, 8)))


def variables(chance: random.Random, folder: Path) -> dict[str, Any]:
    """Return variables to be used: data, texts of files that mean other ones, and one that is defined by itself."""
    known: dict[str, Any] = {name: Literal(data(chance)) for name in "abcdef"}
    inside = "{x: {y: '{{ a }}', z: '{{ nowhere }}'}, l: ['{{ g.x.y }}', 1], again: '{{ g }}'}"
    known["g"] = compile_value(yamlfile.parse(inside, "g"), None)
    known["lazy"] = compile_value("{{ a }}{{ b }}", None)
    known["loops"] = compile_value("{{ loops }}", None)
    known[SEARCHED] = (folder,)
    return known


def attempt(chance: random.Random, folder: Path) -> str:
    """Try one; return what came of it: a value, or the sentence that refuses it."""
    known = variables(chance, folder)
    source = template(chance)
    kind = chance.choice(["value", "value", "condition", "file"])
    (folder / "t.j2").write_text(source, encoding="utf-8")
    tries: dict[str, Callable[[], Any]] = {
        "value": lambda: compile_value(source, None).render(known),
        "condition": lambda: compile_condition(expression(chance), None).holds(known),
        "file": lambda: render_template(folder / "t.j2", known),
    }
    try:
        return f"{kind} {_checked(tries[kind]())!r}"
    except UserError as error:
        return f"{kind} refused: {error}"
    except Exception as error:
        raise AssertionError(f"{kind} {source!r}: {type(error).__name__}: {error}") from error


def _checked(value: Any) -> Any:
    """Return plain data; raises AssertionError for anything else."""
    if isinstance(value, dict):
        return {key: _checked(item) for key, item in value.items()}
    if type(value) is list:
        return [_checked(item) for item in value]
    assert value is OMIT or isinstance(value, (str, int, float, bytes, type(None))) or type(value).__module__ == "datetime", repr(value)
    return value


def main() -> None:
    """Try many."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    options = parser.parse_args()
    wrong = refused = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.cases):
            try:
                refused += " refused: " in attempt(random.Random(f"{options.seed}:{number}"), Path(folder))[:20]
            except AssertionError as error:
                wrong += 1
                print(f"{options.seed}:{number}: {error}"[:400])
    print(f"seed {options.seed}: {options.cases} tried, {refused} refused in a sentence, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
