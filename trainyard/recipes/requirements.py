"""What a person's program needs of Python packages: which file says it, what ``pip`` adds, under which key its environment is kept.

``uv.lock`` is installed as it stands, ``requirements.txt`` and the dependencies of ``pyproject.toml`` are resolved where
the environment is built. The key is the hash of all that decides what is installed; where a file names packages that
lie in the code itself, their files count too. A script without code has the file that lies beside it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from trainyard.errors import Location, UserError
from trainyard.recipes.code import Code
from trainyard.recipes.codefiles import IGNORE_FILE
from trainyard.recipes.secretfiles import secret_in
from trainyard.recipes.summaries import Values
from trainyard.recipes.variables import AUTO
from trainyard.shipped import checkout
from trainyard.textfile import read_text

Kind = Literal["uv.lock", "requirements", "pyproject", "pip"]
SCRIPT_FOLDER = "files"
"""Where a bundle has a script, and the requirements.txt that lies beside it."""
LOCK, REQUIREMENTS, PROJECT = "uv.lock", "requirements.txt", "pyproject.toml"
_PYTHON_VERSION = ".python-version"
PLAIN_VERSION = re.compile(r"3\.\d+(?:\.\d+)?")
_INCLUDE = re.compile(r"^(?:-r|-c|--requirement|--constraint)[ =]*(\S+)")
_LOCAL = re.compile(r"^(?:-e|--editable|-f|--find-links)(?![ =]*[a-z][a-z0-9+.-]*://)|^\.{0,2}/|^\.(?:\[|$)|^file:|@\s*(?:file:|\.{0,2}/)")
_ARCHIVE = re.compile(r"^(?!.*://)\S+\.(?:whl|zip|tar\.gz)\b|^(?!.*(?:://|@))[^\s#;]+/")


@dataclass(frozen=True, slots=True)
class Requirements:
    """The packages that a run's program needs."""

    kind: Kind
    file: str
    """Its name below the code folder, or below the bundle where no code goes along."""
    key: str
    """16 hex characters: the environment of these packages, on every machine."""
    project: bool
    """Whether the code folder is itself a package that has to be importable."""
    python: str | None
    """The Python that .python-version asks for, else what requires-python allows."""
    pip: tuple[str, ...] = ()
    """What is installed beside what the file names."""
    beside: Path | None = None
    """The file of a script without code, which goes along with it."""

    def describe(self) -> str:
        """Return what a person reads of them."""
        own = () if self.kind == "pip" else (self.file,)
        return ", ".join([*own, *self.pip, *(["and the project itself"] if self.project else [])])


def of_run(code: Code | None, values: Values) -> Requirements | None:
    """Return what a run's program needs: what a file says, with what ``pip`` adds. Raises UserError."""
    script, listed = values.get("script"), values.get("pip")
    pip = tuple(listed) if isinstance(listed, list) else ()
    for item in pip:
        _check_added(item)
    if code is not None and "requirements" not in values:
        return None  # a recipe with packages of its own takes a folder along for what it says, not for its packages
    needs = _of_code(code, values) if code is not None else _of_script(Path(str(script)), values) if script else None
    if not pip:
        return needs
    key = hashlib.sha256("\n".join(["pip", *pip, needs.key if needs else ""]).encode()).hexdigest()[:16]
    return replace(needs or Requirements("pip", "pip", key, False, None), key=key, pip=pip)


def place(needs: Requirements | None, bundle: Path) -> None:
    """Copy the file that lies beside a script into a bundle."""
    if needs and needs.beside:
        target = bundle / needs.file
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(needs.beside, target)


def install_arguments(needs: Requirements) -> list[list[str]]:
    """Return what uv is told beside where the environment lies, step by step: in the code folder, or in the bundle without code."""
    if needs.kind == "uv.lock":
        return [["sync", "--frozen", "--no-install-project"], *([["pip", "install", *needs.pip]] if needs.pip else [])]
    own = [] if needs.kind == "pip" else ["-r", needs.file]
    return [["pip", "install", *own, *needs.pip]]


def _of_code(code: Code, values: Values) -> Requirements | None:
    """Return what a file of the code says, as the values say: ``auto``, ``none`` or a file's name."""
    asked = str(values.get("requirements") or AUTO)
    if asked.lower() == "none":
        return None
    stays = [one for one in (LOCK, REQUIREMENTS, PROJECT) if one in code.secrets]
    if asked == AUTO and stays and code.root != checkout():
        why = next(why for one, why in code.left_out if one.partition(":")[0] == stays[0])
        hint = f"Take the secret out of it, or do without its packages: --set requirements=none, or a line '!{stays[0]}' in {IGNORE_FILE}"
        raise UserError(f"requirements: {stays[0]} does not go along with the code: {why}", hint=hint)
    name = _choose(code) if asked == AUTO else asked.removeprefix("./")
    if name is None:
        return None
    if name not in _names(code):
        raise UserError(f"requirements: there is no {name} in the {code.describe()}")
    kind: Kind = "uv.lock" if name.endswith(LOCK) else "pyproject" if name.endswith(PROJECT) else "requirements"
    if kind != "requirements" and "/" in name:
        raise UserError(
            f"requirements: {name} must lie at the top of the code folder", hint=f"Name that folder: --set code={Path(name).parent}"
        )
    if kind == "uv.lock" and PROJECT not in _names(code):
        raise UserError(f"requirements: {name} needs a {PROJECT} beside it")
    project = kind != "requirements" and "build-system" in _toml(code, PROJECT)
    return Requirements(kind, name, _key(code, kind, name), project, _python(code, kind))


def _of_script(script: Path, values: Values) -> Requirements | None:
    """Return what the file beside a script says, by itself: nothing else of its folder goes along."""
    asked = str(values.get("requirements") or AUTO)
    path = script.parent / (REQUIREMENTS if asked == AUTO else asked)
    if asked.lower() == "none" or (asked == AUTO and (not path.is_file() or script.parent == checkout())):
        return None
    if not path.is_file() or path.parent != script.parent:
        raise UserError(f"requirements: there is no file {asked} beside {script.name}")
    if secret := secret_in(path.read_bytes()):
        hint = "Take the secret out of it, or do without its packages: --set requirements=none"
        raise UserError(f"requirements: {path.name} does not go along with the script: {secret[0]} stands in line {secret[1]}", hint=hint)
    for number, line in _written(path):
        if _INCLUDE.match(line) or _LOCAL.search(line) or _ARCHIVE.search(line):
            raise UserError(
                f"requirements: '{line}' names a file, and only {path.name} goes along with a script",
                where=Location(str(path), number, 1, line),
                hint="Send the folder: --set code=FOLDER with a command, as in: -- python train.py",
            )
        _check(line, Location(str(path), number, 1, line))
    digest = hashlib.sha256(b"requirements\n" + path.read_bytes()).hexdigest()[:16]
    return Requirements("requirements", f"{SCRIPT_FOLDER}/{path.name}", digest, False, None, beside=path)


def _check_added(item: str) -> None:
    if item.startswith("-") or _LOCAL.search(item) or _ARCHIVE.search(item):
        hint = "What options and paths name goes into a requirements.txt in the code folder."
        raise UserError(f"pip: '{item}' is an option or a path, and requirements are asked for, as in: pip='numpy scipy>=1'", hint=hint)
    _check(item, None, "pip")


def _choose(code: Code) -> str | None:
    names = _names(code)
    if code.root == checkout():
        return None  # what those files name is for work on Trainyard itself, not for a program that is tried from there
    if LOCK in names and PROJECT in names:
        return LOCK
    if REQUIREMENTS in names:
        return REQUIREMENTS
    return PROJECT if PROJECT in names and "project" in _toml(code, PROJECT) else None


def _key(code: Code, kind: Kind, name: str) -> str:
    parts = [kind, *(f"{one} {_sha256(code, one)}" for one in _deciding(code, kind, name)), _python(code, kind) or ""]
    if _names_own_files(code, kind, name):
        parts.append(code.sha256)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _deciding(code: Code, kind: Kind, name: str) -> list[str]:
    """Return the files whose content decides what is installed."""
    if kind == "requirements":
        return list(dict.fromkeys(one for one, _, _ in _lines(code, name)))
    return [one for one in (LOCK, PROJECT) if one in _names(code) and (kind == "uv.lock" or one == PROJECT)]


def _names_own_files(code: Code, kind: Kind, name: str) -> bool:
    if kind == "requirements":
        return any(_LOCAL.search(line) or _ARCHIVE.search(line) for _, _, line in _lines(code, name))
    if kind == "uv.lock":
        packages = _toml(code, LOCK).get("package")
        tables = [package for package in packages if isinstance(package, dict)] if isinstance(packages, list) else []
        sources = [source for source in (table.get("source") for table in tables) if isinstance(source, dict)]
        return any(source.get(how, ".") != "." for source in sources for how in ("editable", "directory", "path", "virtual"))
    written = _table(code, "project").get("dependencies", [])
    if not isinstance(written, list):
        raise UserError(f"{code.root / PROJECT}: project.dependencies must be a list of texts")
    return "file:" in " ".join(map(str, written)) or "'path'" in str(_table(code, "tool", "uv", "sources"))


def _lines(code: Code, name: str, above: Sequence[str] = ()) -> Iterator[tuple[str, int, str]]:
    """Yield file, line number and text of every requirement, those of included files too. Raises UserError for a wrong one."""
    path = code.root / name
    yield name, 0, ""
    for number, line in _written(path):
        include = _INCLUDE.match(line)
        if include and "://" not in include[1]:
            inner = (Path(name).parent / include[1]).as_posix()
            if inner not in _names(code):
                raise UserError(f"requirements: {inner} does not go along with the code", where=Location(str(path), number, 1, line))
            if inner not in (*above, name):
                yield from _lines(code, inner, (*above, name))
        else:
            _check(line, Location(str(path), number, 1, line))
            yield name, number, line


def _written(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that says something; one that goes on in the next is one."""
    for number, raw in enumerate(read_text(path).replace("\\\n", "  ").splitlines(), start=1):
        if line := re.sub(r"(?:^|\s)#.*", "", raw).strip():
            yield number, line


def _check(line: str, where: Location | None, what: str = "requirements") -> None:
    if line.startswith("-") or "://" in line or _LOCAL.search(line) or _ARCHIVE.search(line):
        return
    from packaging.requirements import InvalidRequirement, Requirement  # only a run with code needs it, and it takes its time

    try:
        Requirement(re.split(r"\s--", line)[0].strip())
    except InvalidRequirement as error:
        raise UserError(f"{what}: '{line}' is no requirement: {str(error).splitlines()[0]}", where=where) from None


def _python(code: Code, kind: Kind) -> str | None:
    if _PYTHON_VERSION in _names(code):
        first = (read_text(code.root / _PYTHON_VERSION).split() or [""])[0]
        if PLAIN_VERSION.fullmatch(first):
            return first
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    allowed = _table(code, "project").get("requires-python") if kind != "requirements" else None
    try:
        return str(SpecifierSet(str(allowed))) if allowed else None
    except InvalidSpecifier:
        raise UserError(f"{code.root / PROJECT}: requires-python '{allowed}' is no range of versions") from None


def _toml(code: Code, name: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(read_text(code.root / name))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{code.root / name}: {error}") from None


def _table(code: Code, *keys: str) -> dict[str, Any]:
    """Return a table of pyproject.toml, {} when it is not there; raises UserError for what is none."""
    table = _toml(code, PROJECT)
    for count, key in enumerate(keys, start=1):
        table = table.get(key, {})
        if not isinstance(table, dict):
            raise UserError(f"{code.root / PROJECT}: {'.'.join(keys[:count])} must be a table")
    return table


def _names(code: Code) -> set[str]:
    return {file.name for file in code.files}


def _sha256(code: Code, name: str) -> str:
    return next(file.sha256 for file in code.files if file.name == name)
