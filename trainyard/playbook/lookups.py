"""Lookups: what ``lookup``, ``query`` and ``with_*`` read on this machine. Meaning and options as Ansible's."""

from __future__ import annotations

import configparser
import csv
import glob
import inspect
import itertools
import os
import random
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.errors import UserError
from trainyard.nearest import suggest
from trainyard.playbook.bounds import listed, numbers
from trainyard.secret import conceal, names_secret

_UNSET = object()
_SEQUENCE = re.compile(r"(?:(?P<start>\w+)-)?(?P<end>\w+)(?:/(?P<stride>\w+))?(?::(?P<format>.+))?")


@dataclass(frozen=True, slots=True)
class Sight:
    """What a lookup may see."""

    variables: Mapping[str, object]
    read: Callable[[str], Any]
    """Returns a variable, rendered."""
    folders: Sequence[Path]
    template: Callable[[Path, str, Mapping[str, object]], str]
    """Renders a template file, of that name in the playbook."""
    repeats: bool = False
    """Whether it is ``with_NAME`` that asks."""

    def find(self, name: str, *below: str) -> Path | None:
        """Return a file: below those names in each of the folders, else in the folder itself."""
        path = Path(name).expanduser()
        places = [folder / part / path for folder in self.folders or (Path.cwd(),) for part in (*below, "")]
        return next((place.absolute() for place in places if place.exists()), None)

    def need(self, name: str, *below: str) -> Path:
        """Return a file that must be there."""
        hits = self.find(name, *below)
        if hits is None:
            raise UserError(f"there is no file '{name}' in {', '.join(map(str, self.folders)) or Path.cwd()}")
        if hits.is_fifo():
            raise UserError(f"{hits} is a pipe, not a file")
        return hits


Lookup = Callable[..., list[Any]]


def names_of(name: str) -> tuple[str, str]:
    """Return the plain name of a lookup, and what is wrong with it where it is not there."""
    plain = name.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
    if plain in LOOKUPS:
        return plain, ""
    hint = _INSTEAD.get(plain)
    return plain, f"the lookup '{name}' is not there: {hint}" if hint else f"there is no lookup '{name}'{suggest(plain, LOOKUPS)}"


def flat(terms: Sequence[Any]) -> list[Any]:
    """Return the terms with the lists among them opened, one level deep."""
    return [item for term in terms for item in (term if isinstance(term, (list, tuple)) else [term])]


def _env(terms: list[Any], sight: Sight, default: Any = "") -> list[Any]:
    hits = []
    for term in terms:
        words = str(term).split()
        value = os.environ.get(words[0] if words else "", default)
        if names_secret(words[0] if words else "") and isinstance(value, str):
            conceal(value)
        hits.append(value)
    return hits


def _file(terms: list[Any], sight: Sight, lstrip: bool = False, rstrip: bool = True) -> list[Any]:
    texts = [sight.need(str(term), "files").read_text(encoding="utf-8") for term in terms]
    return [text.lstrip() if lstrip else text for text in (text.rstrip() if rstrip else text for text in texts)]


def _run(command: str, sight: Sight) -> str:
    where = next(iter(sight.folders), None)
    done = subprocess.run(command, shell=True, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise ValueError(f"the command of a lookup ended with {done.returncode}: {command.split()[0]}")
    return done.stdout.decode()


def _pipe(terms: list[Any], sight: Sight) -> list[Any]:
    return [_run(str(term), sight).rstrip() for term in terms]


def _lines(terms: list[Any], sight: Sight) -> list[Any]:
    return [line for term in flat(terms) for line in _run(str(term), sight).splitlines()]


def _template(terms: list[Any], sight: Sight, template_vars: Mapping[str, object] | None = None, **options: Any) -> list[Any]:
    if set(options) - {"convert_data"}:
        raise ValueError(f"lookup('template'): '{sorted(options)[0]}' is not known here: write it into the '#jinja2:' line of the file")
    return [sight.template(sight.need(str(term), "templates"), str(term), template_vars or {}) for term in terms]


def _vars(terms: list[Any], sight: Sight, default: Any = _UNSET) -> list[Any]:
    hits = []
    for term in terms:
        if term not in sight.variables and default is _UNSET:
            raise UserError(f"lookup('vars'): the variable '{term}' is not defined{suggest(str(term), sight.variables)}")
        hits.append(sight.read(term) if term in sight.variables else default)
    return hits


def _varnames(terms: list[Any], sight: Sight) -> list[Any]:
    return [name for term in terms for name in sight.variables if re.search(str(term), name) and not name.startswith("__")]


def _fileglob(terms: list[Any], sight: Sight) -> list[Any]:
    hits: list[Any] = []
    for term in flat(terms):
        folder, pattern = os.path.split(str(term))
        places = [sight.find(folder, "files")] if folder else [place.absolute() / part for place in sight.folders for part in ("files", "")]
        paths = ([path for path in sorted(glob.glob(str(place / pattern))) if os.path.isfile(path)] for place in places if place)
        hits += next((some for some in paths if some), [])
    return hits


def _first_found(terms: list[Any], sight: Sight, **options: Any) -> list[Any]:
    chosen, skip = _choices(terms or ([options] if options else []))
    for name in chosen:
        hits = sight.find(name, *(("files", "templates", "vars") if sight.repeats else ()))
        if hits is not None:
            return [str(hits.resolve())]
    if skip or options.get("skip"):
        return []
    raise UserError(f"lookup('first_found'): none of these is there: {', '.join(chosen) or 'no name is given'}")


def _choices(terms: Sequence[Any]) -> tuple[list[str], bool]:
    names: list[str] = []
    skip = False
    for term in terms:
        if isinstance(term, Mapping):
            files, paths = (_split(term.get(key, []), marks) for key, marks in (("files", ",;"), ("paths", ",:;")))
            names += [os.path.join(path, name) for path in paths for name in files] if paths else files
            skip = skip or bool(term.get("skip"))
        elif isinstance(term, (list, tuple)):
            inside = _choices(term)
            names, skip = names + inside[0], skip or inside[1]
        else:
            names.append(str(term))
    return names, skip


def _split(texts: Any, marks: str) -> list[str]:
    return [part for text in ([texts] if isinstance(texts, str) else texts) for part in re.split(f"[{marks}]", text) if part]


def _items(terms: list[Any], sight: Sight) -> list[Any]:
    return flat(terms)


def _list(terms: list[Any], sight: Sight) -> list[Any]:
    return list(terms)


def _indexed(terms: list[Any], sight: Sight) -> list[Any]:
    return list(enumerate(flat(terms)))


def _dict(terms: list[Any], sight: Sight) -> list[Any]:
    hits = []
    for term in terms:
        if not isinstance(term, Mapping):
            raise TypeError("lookup('dict') is for mappings")
        hits += [{"key": key, "value": value} for key, value in term.items()]
    return hits


def _nested(terms: list[Any], sight: Sight) -> list[Any]:
    if not terms:
        raise ValueError("lookup('nested') needs at least one list")
    return listed(flat(row) for row in itertools.product(*(term if isinstance(term, (list, tuple)) else [term] for term in terms)))


def _together(terms: list[Any], sight: Sight) -> list[Any]:
    if not terms:
        raise ValueError("lookup('together') needs at least one list")
    return [flat(row) for row in itertools.zip_longest(*(term if isinstance(term, (list, tuple)) else [term] for term in terms))]


def _subelements(terms: list[Any], sight: Sight) -> list[Any]:
    if not 2 <= len(terms) <= 3 or not isinstance(terms[1], str):
        raise ValueError("lookup('subelements') takes a list, the name of a list in each of its items, and perhaps {skip_missing: true}")
    items = list(terms[0].values()) if isinstance(terms[0], Mapping) else terms[0]
    lenient = len(terms) == 3 and bool(terms[2].get("skip_missing"))
    *steps, last = terms[1].split(".")
    pairs: list[Any] = []
    for item in items:
        if item.get("skipped"):
            continue
        inside: Any = item
        for step in steps:
            inside = inside.get(step, {}) if isinstance(inside, Mapping) else {}
        if last not in inside and not lenient:
            raise ValueError(f"lookup('subelements'): an item has no '{terms[1]}'")
        pairs += [(_without(item, [*steps, last]), one) for one in inside.get(last, [])]
    return pairs


def _without(item: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    """Return an item without what the path leads to."""
    first, *rest = path
    return {key: _without(value, rest) if key == first else value for key, value in item.items() if key != first or rest}


def _sequence(terms: list[Any], sight: Sight, **options: Any) -> list[Any]:
    hits: list[Any] = []
    for term in flat(terms) or [""]:
        values = {**options, **_bounds(str(term))}
        unknown = set(values) - {"start", "end", "count", "stride", "format"}
        if unknown or ("end" in values) == ("count" in values):
            raise ValueError("lookup('sequence') takes start=, stride=, format= and one of end= and count=")
        start, stride = _number(values.get("start", 1)), _number(values.get("stride", 1))
        count = _number(values["count"]) if "count" in values else None
        if count == 0 or stride == 0:
            continue
        end = _number(values["end"]) if count is None else start + count * stride - 1
        if (end - start) * stride < 0:
            raise ValueError("lookup('sequence'): to count backwards make stride negative, to count forward positive")
        form = str(values.get("format", "%d"))
        if form.count("%") != 1:
            raise ValueError(f"lookup('sequence'): a format has one place like %02d, '{form}' has not")
        hits += [form % number for number in numbers(start, end + (1 if stride > 0 else -1), stride)]
    return hits


def _bounds(term: str) -> dict[str, Any]:
    match = _SEQUENCE.fullmatch(term)
    if match is not None:
        return {key: value for key, value in match.groupdict().items() if value is not None}
    words = [word.partition("=") for word in shlex.split(term)]
    if not all(equals for _, equals, _ in words):
        raise ValueError(f"lookup('sequence'): '{term}' is neither like 1-10/2:host%02d nor like start=1 end=10")
    return {key: value for key, _, value in words}


def _number(value: Any) -> int:
    text = str(value)
    return int(text, 8) if re.fullmatch(r"0[0-7]+", text) else int(text, 0)


def _random_choice(terms: list[Any], sight: Sight) -> list[Any]:
    return [random.SystemRandom().choice(terms)] if terms else []


def _csvfile(
    terms: list[Any], sight: Sight, file: str = "ansible.csv", delimiter: str = "\t", col: int = 1, keycol: int = 0, default: Any = None,
    encoding: str = "utf-8",
) -> list[Any]:  # fmt: skip
    with sight.need(file, "files").open(encoding=encoding, newline="") as source:
        rows = list(csv.reader(source, delimiter="\t" if delimiter == "TAB" else delimiter))
    hits = [next((row[int(col)] for row in rows if row and row[int(keycol)] == str(term)), default) for term in terms]
    return [item for item in hits if item is not None]


def _ini(
    terms: list[Any], sight: Sight, file: str = "ansible.ini", section: str = "global", default: Any = "", type: str = "ini",
    encoding: str = "utf-8", re: bool = False, case_sensitive: bool = False, interpolation: bool = True,
) -> list[Any]:  # fmt: skip
    parser = configparser.ConfigParser(interpolation=configparser.BasicInterpolation() if interpolation else None)
    if case_sensitive:
        parser.optionxform = str  # type: ignore[assignment,method-assign]
    if re:
        raise ValueError("lookup('ini'): 're' is not known here: name each key")
    section = section if type == "ini" else "all"
    text = sight.need(file, "files").read_text(encoding=encoding)
    parser.read_string(text if type == "ini" else f"[all]\n{text}")
    if not parser.has_section(section):
        raise ValueError(f"lookup('ini'): {file} has no section '{section}'")
    return [parser.get(section, str(term), fallback=default) for term in terms]


def _inline(lookup: Lookup) -> Lookup:
    """Return a lookup whose options may stand in a term, too, behind the key: ``key file=x.csv``."""
    known = inspect.signature(lookup).parameters

    def each(terms: list[Any], sight: Sight, **options: Any) -> list[Any]:
        hits: list[Any] = []
        for term in terms:
            words = [word.partition("=") for word in shlex.split(term)] if "=" in str(term) else []
            beside = {name: value for name, equals, value in words if equals and name in known}
            key = " ".join("".join(word) for word in words if word[0] not in beside) if beside else term
            hits += lookup([key], sight, **{**options, **beside})
        return hits

    return each


LOOKUPS: Mapping[str, Lookup] = {
    "csvfile": _inline(_csvfile), "dict": _dict, "env": _env, "file": _file, "fileglob": _fileglob, "first_found": _first_found,
    "flattened": lambda terms, sight: _deep(terms), "indexed_items": _indexed, "ini": _inline(_ini), "items": _items, "lines": _lines,
    "list": _list, "nested": _nested, "pipe": _pipe, "random_choice": _random_choice, "sequence": _sequence, "subelements": _subelements,
    "template": _template, "together": _together, "varnames": _varnames, "vars": _vars,
}  # fmt: skip
_INSTEAD = {
    "password": "keep the password in a file with !vault, or in the environment: lookup('env', 'NAME_PASSWORD')",
    "url": "use the action 'uri' with 'register', or get_url",
    "config": "settings of Ansible's own are not read here",
    "inventory_hostnames": "use groups['NAME']",
    "unvault": "use !vault in the file, which is read by itself",
    "community.general.flattened": "use the filter flatten",
    "community.general.cartesian": "use 'nested'",
    "community.general.dotenv": "use lookup('ini', NAME, type='properties', file='.env')",
    "community.general.random_string": "use lookup('pipe', 'openssl rand -hex 16')",
    "community.hashi_vault.hashi_vault": "put the value into the environment: lookup('env', 'NAME_TOKEN')",
    "amazon.aws.aws_secret": "put the value into the environment: lookup('env', 'NAME_TOKEN')",
    "amazon.aws.ssm_parameter": "put the value into the environment: lookup('env', 'NAME_TOKEN')",
}


def _deep(terms: Sequence[Any]) -> list[Any]:
    return [item for term in terms for item in (_deep(term) if isinstance(term, (list, tuple)) else [term])]
