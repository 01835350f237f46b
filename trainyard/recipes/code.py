"""A person's own code on its way to a pod: which files go, what each is, and one hash for all of them.

Nothing is copied before everything is known to be right; what is copied later is compared with what was seen here, so
that a run is exactly the code that was looked at.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import git
from trainyard.errors import UserError
from trainyard.files import sha256_of
from trainyard.nearest import suggest
from trainyard.pod.files import name_problem, printable
from trainyard.recipes.codefiles import IGNORE_FILE, MOST_FILES, Listing, in_repository, list_code, too_many
from trainyard.recipes.contract import Recipe
from trainyard.recipes.secretfiles import secret_in
from trainyard.recipes.summaries import CodeSummary, Values
from trainyard.recipes.variables import AUTO
from trainyard.sizes import human_size

FOLDER, LIST = "code", "code.json"
"""Where the code lies in a bundle, and what the bundle says of it."""
LIMIT_MB = 100
_SHOWN = 8
_BLOCK = 1 << 20
_MOST_LINKS = 4
"""Links to folders, one behind the other, that are followed: folders that link each other have no end."""
_LFS = b"version https://git-lfs.github.com/spec/"
_SCRIPTS = (".py", ".sh")
_INTERPRETERS = re.compile(r"(?:.*/)?(?:python[0-9.]*|ba?sh|dash|torchrun|accelerate|deepspeed|uv)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class CodeFile:
    """One file: its name below the code folder, where it is read, what it is."""

    name: str
    source: Path
    size: int
    sha256: str
    executable: bool


@dataclass(frozen=True, slots=True)
class Code:
    """The code that goes along with a run."""

    root: Path
    files: tuple[CodeFile, ...]
    empty_folders: tuple[str, ...] = ()
    untracked: tuple[str, ...] = ()
    """Files that go along and are not in git yet."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and reason of each file that a person might miss."""
    secrets: frozenset[str] = frozenset()
    """Names of those that a line of .trainyardignore would take along."""
    pointers: tuple[str, ...] = ()
    """Files that are only Git LFS's word for their content."""

    @property
    def sha256(self) -> str:
        """The hash of the whole tree: names, contents, and what is a program."""
        lines = [f"{file.sha256} {'x' if file.executable else '-'} {file.name}\n" for file in self.files]
        return hashlib.sha256("".join([*lines, *(f"folder {name}\n" for name in self.empty_folders)]).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def describe(self) -> str:
        """Return the one line a person reads."""
        return f"code of {self.root}: {len(self.files)} files, {human_size(self.size)}"

    def remarks(self) -> list[str]:
        """Return what a person should know beside that line."""
        lines = []
        secrets = sorted(map(printable, self.secrets))
        named = {name: f"{name} ({why})" for name, why in self.left_out}
        # Of secrets each one is named: what is thought to be left out must not go along unseen, nor the other way round.
        each = {name: text for name, text in named.items() if name in secrets or name.rpartition(":")[0] in secrets}
        if each:
            lines.append(f"left out of the code: {', '.join(each.values())}")
        if others := [text for name, text in named.items() if name not in each]:
            lines.append("left out of the code: " + _some(others))
        if secrets:
            lines.append(f"a line '!NAME' in {IGNORE_FILE} takes {', '.join(secrets)} along all the same")
        if self.untracked:
            lines.append(f"not in git yet, and sent: {_some(self.untracked)}")
        if self.pointers:
            lines.append(f"only Git LFS pointers, not their content (git lfs pull): {_some(self.pointers)}")
        return lines

    def summary(self) -> CodeSummary:
        """Return what record and summary keep, ``commit`` being the repository's; the list of files lies in the run's bundle."""
        commit = git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", at=self.root) or None
        return CodeSummary(str(self.root), commit, self.sha256, len(self.files), self.size)

    def has(self, name: str) -> bool:
        """Tell whether a file or folder of this name goes along."""
        clean = os.path.normpath(name)
        return clean == "." or any(file.name == clean or file.name.startswith(clean + "/") for file in self.files)


def collect(folder: Path, limit_mb: int = LIMIT_MB) -> Code:
    """Look at every file of a code folder and return what goes along.

    Raises UserError for a folder that is none, cannot be read, holds nothing, or holds more than ``limit_mb`` MB.
    """
    _need_folder(folder)
    listing = list_code(folder)
    sources = _sources(folder, listing)
    _check_size(folder, sources, limit_mb)
    files, pointers = [], []
    for name, source in sources.items():
        status, data = _read(source, name)
        secret = None if name in listing.allowed else secret_in(data)
        if secret is not None:
            listing.left_out[f"{name}:{secret[1]}"] = f"{secret[0]} stands in it"
            listing.secrets.add(name)
            continue
        if data.startswith(_LFS):
            pointers.append(name)
        files.append(CodeFile(name, source, len(data), hashlib.sha256(data).hexdigest(), bool(status.st_mode & stat.S_IXUSR)))
    if not files:
        raise UserError(
            f"code {folder}: no file of it goes along", hint=_some([f"{n} ({why})" for n, why in listing.left_out.items()]) or None
        )
    taken = {file.name for file in files}
    return Code(
        root=folder, files=tuple(files), empty_folders=tuple(sorted(name for name in listing.empty_folders if name_problem(name) is None)),
        untracked=tuple(name for name in listing.untracked if name in taken),
        left_out=tuple(sorted((printable(name), why) for name, why in listing.left_out.items())), pointers=tuple(pointers),
        secrets=frozenset(listing.secrets),
    )  # fmt: skip


def of_run(recipe: Recipe, values: Values, base: Path | None = None) -> Code | None:
    """Return the code that a run's values ask for, None when none goes along.

    Unless a folder is named, a command takes the one along in which it was typed (``base``, else the working directory),
    if git knows it. Raises UserError.
    """
    name = next((variable.name for variable in recipe.variables if variable.kind == "folder"), None)
    value, words = values.get(name) if name else None, values.get("command")
    if value == AUTO and words:
        value = str(base or Path.cwd())
        if not in_repository(Path(value)):
            hint = f"Send it all the same: --set {name}=.   Send nothing: --set {name}=none"
            raise UserError(f"{value} lies in no git repository: whether it is the command's code is for you to say", hint=hint)
    if value is None or value == AUTO:
        return None
    limit = values.get("code_limit_mb")
    code = collect(Path(str(value)), limit if isinstance(limit, int) else LIMIT_MB)
    if isinstance(words, list):
        check_command(words, code)
    return code


def place(code: Code, bundle: Path) -> None:
    """Copy the code into a bundle and write down what it is; raises UserError for a file that has changed since it was looked at."""
    top = bundle / FOLDER
    for name in code.empty_folders:
        (top / name).mkdir(parents=True, exist_ok=True)
    for file in code.files:
        target = top / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _copy(file, target)
        except OSError as error:
            raise UserError(f"code: {file.source} cannot be copied: {error.strerror or error}") from None
        if sha256_of(target) != file.sha256:
            hint = f"Run it again. Where something writes to it all the time, list it in {IGNORE_FILE}."
            raise UserError(f"code: {file.name} was changed while the run was prepared", hint=hint)
        target.chmod(0o755 if file.executable else 0o644)
    rows = [{"path": file.name, "sha256": file.sha256, "bytes": file.size, "executable": file.executable} for file in code.files]
    (bundle / LIST).write_text(json.dumps({"sha256": code.sha256, "files": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy(file: CodeFile, target: Path) -> None:
    """Copy a file as long as it was: one that is appended to meanwhile is the log of this very command, kept beside the code."""
    with file.source.open("rb") as source, target.open("wb") as copy:
        left = file.size
        while data := source.read(min(left, _BLOCK)):
            copy.write(data)
            left -= len(data)


def check_command(words: Sequence[str], code: Code) -> None:
    """Refuse a command whose script does not go along: it would fail on a pod that is paid for.

    Raises UserError naming what comes nearest. What is no script by its ending, or lies elsewhere, is not judged.
    """
    script = _script_of(words)
    if script is None or script.startswith(("/", "~")) or any(sign in script for sign in "$*?["):
        return
    clean = os.path.normpath(script)
    if code.has(script):
        file = next((file for file in code.files if file.name == clean), None)
        if file is not None and not file.executable and next(itertools.dropwhile(_ASSIGNMENT.match, words)) == script:
            raise UserError(
                f"the command runs {script}, which is no program: nobody has the right to run it",
                hint=f"Let it be run (chmod +x {script}), or name what runs it, as in: python {script}",
            )
        return
    why = next((why for name, why in code.left_out if name.partition(":")[0] == clean), None)
    if why is not None:
        remedy = f"A line '!{script}' in {code.root / IGNORE_FILE} takes it along." if clean in code.secrets else None
        raise UserError(f"{script} does not go along with the code: {why}", hint=remedy)
    there = (code.root / script).exists()
    near = [file.name for file in code.files if file.name.rpartition("/")[2] == script.rpartition("/")[2]]
    hint = f"There is {_some(near)}." if near else f"Is it ignored (.gitignore, {IGNORE_FILE})?" if there else None
    what = "does not go along" if there else f"is not there{suggest(clean, [file.name for file in code.files])}"
    raise UserError(f"the command runs {script}, which {what}: {code.describe()}", hint=hint)


def _need_folder(folder: Path) -> None:
    if not folder.exists():
        raise UserError(f"code: there is no folder {folder}")
    if not folder.is_dir():
        raise UserError(f"code: {folder} is no folder", hint="Name the folder it lies in; what runs is said by the command.")
    if folder in (Path("/"), Path.home()):
        raise UserError(f"code: {folder} is everything you have, not one training's code", hint="Name its folder: --set code=FOLDER")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"code: {folder} cannot be read")


def _sources(folder: Path, listing: Listing) -> dict[str, Path]:
    """Return name -> file to read; links inside the code stand for what they lead to, what cannot go along is noted."""
    problems = {name: name_problem(name) for name in listing.names}
    real_root = os.path.realpath(folder)
    links = _Links(real_root, {name for name, problem in problems.items() if problem is None}, listing.left_out)
    for name, problem in problems.items():
        path = folder / name
        if problem is not None:
            listing.left_out[name] = problem
        elif path.is_symlink() or os.path.realpath(path.parent) != os.path.normpath(os.path.join(real_root, os.path.dirname(name))):
            links.follow(path, name)
        elif path.is_file() or not path.exists():  # one that has just gone is told when it is read
            links.sources[name] = path
        else:
            listing.left_out[name] = "no regular file"
    if len(links.sources) > MOST_FILES:
        raise too_many(folder, links.sources)
    return dict(sorted(links.sources.items()))


class _Links:
    """Links of a code folder, and what they lead to among the files ``taken``."""

    def __init__(self, real_root: str, taken: set[str], left_out: dict[str, str]) -> None:
        self._real_root, self._taken, self._left_out = real_root, taken, left_out
        self.sources: dict[str, Path] = {}

    def follow(self, path: Path, name: str, above: tuple[str, ...] = ()) -> None:
        """Add what a link leads to under the link's name, or note why that cannot be; ``above`` are folders that links led to."""
        why = self._problem(os.path.realpath(path), name, above)
        if why is not None:
            self._left_out[name] = why

    def _problem(self, real: str, name: str, above: tuple[str, ...]) -> str | None:
        if not os.path.exists(real):
            return "a link to nothing"
        if real != self._real_root and not real.startswith(self._real_root + os.sep):
            return "a link that leads out of the code"
        inside = os.path.relpath(real, self._real_root)
        if not os.path.isdir(real):
            if inside not in self._taken:
                return "a link to what does not go along"
            self.sources[name] = Path(real)
            return None
        if inside == "." or (name + "/").startswith(inside + "/") or inside in above:
            return "a link to a folder it lies in"
        if len(above) == _MOST_LINKS:
            return "a link behind too many links"
        below = [one for one in self._taken if one.startswith(inside + "/")]
        for one in below:
            self._add(Path(self._real_root, one), name + one[len(inside) :], (*above, inside))
        return None if below else "a link to what does not go along"

    def _add(self, path: Path, name: str, above: tuple[str, ...]) -> None:
        if problem := name_problem(name):
            self._left_out[name] = problem
        elif path.is_symlink():
            self.follow(path, name, above)
        elif path.is_file():
            self.sources[name] = path


def _check_size(folder: Path, sources: dict[str, Path], limit_mb: int) -> None:
    sizes = {name: path.stat().st_size if path.exists() else 0 for name, path in sources.items()}
    total = sum(sizes.values())
    if total <= limit_mb * 1_000_000:
        return
    biggest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    raise UserError(
        f"code {folder}: {human_size(total)} in {len(sizes):,} files, {limit_mb} MB are the most; the biggest: "
        + ", ".join(f"{name} ({human_size(size)})" for name, size in biggest),
        hint=f"List what the training does not need in {folder / IGNORE_FILE}, give data with --data, or raise --set code_limit_mb=...",
    )


def _read(path: Path, name: str) -> tuple[os.stat_result, bytes]:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()), file.read()
    except OSError as error:
        hint = f"Let it be read, or list it in {IGNORE_FILE}."
        raise UserError(f"code: {name} cannot be read: {error.strerror or error}", hint=hint) from None


def _script_of(words: Sequence[str]) -> str | None:
    """Return the script that a command runs: its first word, or what an interpreter is given first."""
    words = list(itertools.dropwhile(_ASSIGNMENT.match, words))
    if not words:
        return None
    first = words[0]
    if first.startswith(("./", "../")) or ("/" in first and first.endswith(_SCRIPTS)):
        return first
    if not _INTERPRETERS.fullmatch(first):
        return None
    for word in words[1:]:
        if word in ("-m", "-c", "--module", "-"):
            return None
        if word.endswith(_SCRIPTS) and not word.startswith("-"):
            return word
    return None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
