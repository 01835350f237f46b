"""Which files of a folder are a person's code: what git has or would add, less what .trainyardignore names.

In a git repository: tracked files as they lie there now, and files that git does not know yet and does not ignore.
Outside of one: every file that the folder's own .gitignore does not name. Rubbish (caches, environments) is never taken
unless git tracks it; .trainyardignore has the last word, in the syntax of a .gitignore: ``!name`` takes a file along.
"""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainyard.errors import UserError
from trainyard.recipes import secretfiles
from trainyard.textfile import read_text

IGNORE_FILE = ".trainyardignore"
MOST_FILES = 50_000
_RUBBISH = (
    "__pycache__/", "*.pyc", ".venv/", "venv/", "node_modules/", ".ipynb_checkpoints/", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/",
    ".tox/", ".nox/", ".hg/", ".svn/", ".DS_Store", "*.egg-info/", "*.swp", "wandb/", "mlruns/", "lightning_logs/", "/out/",
)  # fmt: skip
_OURS = ("/Pulumi.*.yaml",)
"""What is Trainyard's own and no training needs: a stack's settings hold encrypted secrets with their salt."""
_STATE = ".trainyard"
"""Ledger, state and keys of a checkout, wherever it lies in the code: never sent, whatever git or .trainyardignore says."""
_SUBMODULE = "160000"
_PATIENCE = 60.0


@dataclass(slots=True)
class Listing:
    """The names of a folder's code, with '/', and what does not go along."""

    names: list[str] = field(default_factory=list)
    untracked: list[str] = field(default_factory=list)
    """Those among the names that git does not track yet."""
    empty_folders: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """Name -> why. What is merely ignored is not named."""
    secrets: set[str] = field(default_factory=set)
    """Those among them that are taken for a secret."""
    allowed: frozenset[str] = frozenset()
    """Names that a ``!`` line of .trainyardignore takes along whatever they hold."""
    in_git: bool = False


class _Rules:
    """The patterns, later ones winning: rubbish, what is ours, secrets, then those of .trainyardignore.

    A secret is let through by a ``!`` line that spells its name, never by one with a ``*`` or of a folder around it.
    """

    def __init__(self, folder: Path, *, gitignore: bool) -> None:
        from pathspec import GitIgnoreSpec  # only a run with code needs it, and it takes its time

        rubbish = [*_RUBBISH, *(_lines(folder / ".gitignore") if gitignore else ())]
        ours = [*rubbish, *_OURS]
        self._first_ours = len(rubbish)
        own = _lines(folder / IGNORE_FILE)
        self._first_secret, self._first_own = len(ours), len(ours) + len(secretfiles.NAMES)
        self._own, self._secrets = own, GitIgnoreSpec.from_lines(secretfiles.NAMES)
        try:
            self._spec = GitIgnoreSpec.from_lines([*ours, *secretfiles.NAMES, *own])
        except ValueError as error:
            raise UserError(f"{folder / IGNORE_FILE}: {error}") from None

    def judge(self, name: str, *, tracked: bool = False) -> str:
        """Return 'take', 'allowed' (by a line of the person's own), 'ignored' or 'secret'; what git tracks is no rubbish."""
        if _STATE in name.split("/"):
            return "ignored"
        result = self._spec.check_file(name)
        index = result.index or 0
        if not result.include:
            if result.include is None or index < self._first_own:
                return "take"
            if f"/{name.rstrip('/')}".endswith(f"/{self._own[index - self._first_own].strip().removeprefix('!').strip('/')}"):
                return "allowed"
            # `!*.py` and `!src/` say what is code, not that a secret among it may go.
            return "secret" if self._secrets.match_file(name) else "take"
        if tracked and index < self._first_ours:
            return "take"
        return "secret" if self._first_secret <= index < self._first_own else "ignored"


def list_code(folder: Path) -> Listing:
    """Return the names of a folder's code, sorted; raises UserError where git refuses to answer, or for far too many files."""
    listing = Listing()
    listing.in_git = in_repository(folder) and not _is_ignored(folder)
    rules = _Rules(folder, gitignore=not listing.in_git)
    if listing.in_git:
        known, unknown = _of_repository(folder, "", listing)
        unknown = _without_environments(unknown)
    else:
        known, unknown = [], list(_walk(folder, rules, listing))
    allowed: set[str] = set()
    for name, tracked in itertools.chain(((name, True) for name in known), ((name, False) for name in unknown)):
        word = rules.judge(name, tracked=tracked)
        if tracked and _STATE in name.split("/"):
            listing.left_out[f"{name.partition(_STATE)[0]}{_STATE}/"] = "Trainyard's own records, state and keys are never sent"
        elif word == "secret":
            listing.left_out[name] = "its name is that of a secret"
            listing.secrets.add(name)
        elif word != "ignored":
            listing.names.append(name)
            allowed |= {name} if word == "allowed" else set()
    if len(listing.names) > MOST_FILES:
        raise too_many(folder, listing.names)
    listing.names, listing.allowed = sorted(set(listing.names)), frozenset(allowed)
    listing.untracked = sorted(set(unknown) & set(listing.names)) if listing.in_git else []
    return listing


def too_many(folder: Path, names: Iterable[str]) -> UserError:
    """Return the error for a folder that is no code."""
    counts: dict[str, int] = {}
    for name in names:
        top = name.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
    most = ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:5])
    return UserError(
        f"code {folder}: has more than {MOST_FILES:,} files; most are in: {most}",
        hint=f"List what the training does not need in {folder / IGNORE_FILE}, or name a smaller folder: --set code=FOLDER",
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]  # pathspec does not count empty ones
    except FileNotFoundError:
        return []


def in_repository(folder: Path) -> bool:
    """Tell whether a folder lies in a git repository."""
    return any((above / ".git").exists() for above in (folder, *folder.parents))


def _of_repository(folder: Path, below: str, listing: Listing) -> tuple[list[str], list[str]]:
    """Return the names that git tracks and those that it neither tracks nor ignores; submodules are looked into."""
    known: list[str] = []
    unknown: list[str] = []
    inner: list[tuple[str, bool]] = []
    for line in _git(folder, "ls-files", "-z", "--cached", "--stage", "--", "."):
        facts, _, name = line.partition("\t")
        if facts.startswith(_SUBMODULE):
            inner.append((name, True))
        elif os.path.lexists(folder / name):  # one that was deleted and not committed is no part of the code
            known.append(below + name)
    for name in _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", "."):
        if name.endswith("/"):
            inner.append((name.rstrip("/"), False))
        else:
            unknown.append(below + name)
    for name, is_submodule in inner:
        if not (folder / name / ".git").exists():
            listing.left_out[below + name] = "a submodule that is not checked out (git submodule update --init)"
            continue
        more_known, more_unknown = _of_repository(folder / name, f"{below}{name}/", listing)
        known += more_known if is_submodule else []
        unknown += more_unknown if is_submodule else more_known + more_unknown
    return known, unknown


def _is_ignored(folder: Path) -> bool:
    """Tell whether git knows nothing of a folder by its owner's wish: what a run has brought home can be run again."""
    return run_git(folder, "check-ignore", "-q", ".").returncode == 0


def run_git(folder: Path, *words: str, stdin: bytes = b"", index: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """Ask git about the repository that a folder lies in, whatever repository the caller's environment names; it takes no lock.

    ``index``: in the place of its own. Raises UserError where git does not start, or says nothing for a minute.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")}
    env |= {"GIT_OPTIONAL_LOCKS": "0"} | ({"GIT_INDEX_FILE": str(index)} if index else {})
    try:
        return subprocess.run(["git", "-C", folder, *words], input=stdin, capture_output=True, env=env, check=False, timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"code {folder}: git has said nothing for {_PATIENCE:g} s: git {shlex.join(words)}") from None
    except OSError as error:
        raise UserError(f"code {folder}: is a git repository, and git does not start: {error.strerror}", hint="Install git.") from None


def _git(folder: Path, *words: str) -> list[str]:
    done = run_git(folder, *words)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"it ended with {done.returncode}"]
        raise UserError(f"code {folder}: git does not list its files: {said[0]}", hint="\n".join(said[1:]).strip() or None)
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _without_environments(names: list[str]) -> list[str]:
    """Return the names without those of Python environments that nobody has told git to ignore."""
    homes = tuple(name.removesuffix("pyvenv.cfg") for name in names if name.endswith("/pyvenv.cfg"))
    return [name for name in names if not name.startswith(homes)] if homes else names


def _walk(folder: Path, rules: _Rules, listing: Listing) -> Iterator[str]:
    count = 0
    seen: list[str] = []
    for top, folders, files in os.walk(folder):
        below = "" if top == str(folder) else os.path.relpath(top, folder) + "/"
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        folders[:] = sorted(name for name in folders if name not in links and _enter(top, below, name, rules, listing))
        taken = [below + name for name in (*files, *links) if rules.judge(below + name) != "ignored"]
        if below and not (folders or taken):
            listing.empty_folders.append(below.rstrip("/"))
        count += len(taken)
        seen += taken
        if count > MOST_FILES:
            raise too_many(folder, seen)
        yield from taken


def _enter(top: str, below: str, name: str, rules: _Rules, listing: Listing) -> bool:
    if name == ".git" or os.path.isfile(os.path.join(top, name, "pyvenv.cfg")):
        return False
    word = rules.judge(f"{below}{name}/")
    if word == "secret":
        listing.left_out[f"{below}{name}/"] = "its name is that of a secret"
        listing.secrets.add(f"{below}{name}/")
    return word in ("take", "allowed")
