"""What of a git repository is not committed yet, as one patch that `git apply` takes: bounded, and without secrets.

Nothing of the repository is touched, not even its index: files that git does not know are shown to it in a copy.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError
from trainyard.pod.files import printable
from trainyard.recipes import secretfiles
from trainyard.recipes.codefiles import run_git
from trainyard.sizes import human_size

LARGEST_FILE = 2_000_000
"""Bytes of a file, before or after, whose change is kept."""
LARGEST_PATCH = 8_000_000
"""Bytes of the whole patch."""
_MOST_ASIDE = 500
"""So many names of files that are left out fit on git's command line."""
_DIFF = (
    "-c", "core.quotePath=false", "diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative",
    "--ignore-submodules=dirty", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
"""A person's own settings of git shape no patch."""
_OURS = ("Pulumi.*.yaml", ".trainyard/")
"""Settings hold encrypted secrets; what a run had of them is kept apart."""
_NONE = re.compile(rb"0+")


@dataclass(frozen=True, slots=True)
class Uncommitted:
    """A repository's commit, and what differs from it."""

    commit: str | None
    patch: bytes
    files: tuple[str, ...]
    """Names of those whose change is in the patch."""
    left_out: tuple[tuple[str, str], ...]
    """Name and reason of each whose change is not."""
    apart: tuple[str, ...] = ()
    """Changed files that belong in no patch: settings of stacks, Trainyard's own state."""


@dataclass(frozen=True, slots=True)
class _ChangedFile:
    name: str
    before: str
    """Its blob; zeros for none."""


def top_of(folder: Path) -> Path | None:
    """Return the top of the repository that a folder lies in; None where it lies in none."""
    done = run_git(folder, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(done.stdout.rstrip(b"\n"))) if done.returncode == 0 and done.stdout.strip() else None


def uncommitted(top: Path, used: Sequence[Path], untracked: Iterable[Path] = ()) -> Uncommitted:
    """Return what a repository holds beside its commit: changes of what git tracks, and files that it does not know yet.

    Of those: what lies in ``used``, a few files and folders, and is not ignored, and the files ``untracked``. Raises UserError where git
    does not answer.
    """
    head = run_git(top, "rev-parse", "--verify", "--quiet", "HEAD")
    if head.returncode:
        _ask(top, "rev-parse", "--git-dir")  # what git refuses to look into has commits, for all we know
        return Uncommitted(None, b"", (), (("*", "nothing is committed yet"),))
    with _index_with(top, [*_unknown_in(top, used), *_below(top, untracked)]) as index:
        changed = list(_changed(top, index))
        apart = _apart(changed)
        left_out = dict(_judged(top, [file for file in changed if file.name not in apart]))
        commit = head.stdout.decode().strip()
        aside = [f":(top,exclude,literal){name}" for name in (*apart, *left_out)]
        if len(aside) > _MOST_ASIDE:
            return Uncommitted(commit, b"", (), (("*", f"{len(left_out)} changed files are secrets or too big"),))
        patch = b""
        if len(aside) < len(changed):
            patch = _ask(top, *_DIFF, "--binary", "-U3", "HEAD", "--", ":(top)", *aside, index=index)
    taken: dict[str, list[bytes]] = {}
    size = 0
    for name, piece in _pieces(patch):
        secret = _secret_in(top / name, piece)
        if secret is not None or size + len(piece) > LARGEST_PATCH:
            left_out[name] = secret or f"the patch would be bigger than {human_size(LARGEST_PATCH)}"
            continue
        taken.setdefault(name, []).append(piece)
        size += len(piece)
    whole = b"".join(piece for name, pieces in taken.items() if name not in left_out for piece in pieces)
    names = tuple(printable(name) for name in taken if name not in left_out)
    return Uncommitted(commit, whole, names, tuple((printable(name), why) for name, why in sorted(left_out.items())), tuple(apart))


def _unknown_in(top: Path, used: Sequence[Path]) -> list[bytes]:
    inside = [str(path) for path in used if path.is_relative_to(top)]
    listed = _ask(top, "--literal-pathspecs", "ls-files", "-z", "--others", "--exclude-standard", "--", *inside) if inside else b""
    return [name for name in listed.split(b"\0") if name and not name.endswith(b"/")]


def _below(top: Path, untracked: Iterable[Path]) -> Iterator[bytes]:
    """Give the names of files of this repository: those of one inside it are not its own."""
    own: dict[Path, bool] = {top: True}
    for path in untracked:
        for folder in reversed([above for above in path.parents if above.is_relative_to(top) and above not in own]):
            own[folder] = own[folder.parent] and not (folder / ".git").exists()
        if own.get(path.parent):
            yield os.fsencode(path.relative_to(top))


@contextmanager
def _index_with(top: Path, names: Sequence[bytes]) -> Iterator[Path | None]:
    """Yield a copy of the index in which files that git does not know are as if they were to be added; None where there are none."""
    if not names:
        yield None
        return
    own = top / os.fsdecode(_ask(top, "rev-parse", "--git-path", "index").rstrip(b"\n"))
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        index = Path(scratch) / "index"
        if own.is_file():
            shutil.copyfile(own, index)
        words = ("--literal-pathspecs", "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
        _ask(top, *words, stdin=b"\0".join(names), index=index)
        yield index


def _changed(top: Path, index: Path | None) -> Iterator[_ChangedFile]:
    words = _ask(top, *_DIFF, "--raw", "-z", "--no-abbrev", "HEAD", "--", index=index).split(b"\0")
    for facts, name in zip(words[::2], words[1::2], strict=False):
        yield _ChangedFile(os.fsdecode(name), facts.split(b" ")[2].decode())


def _apart(changed: Sequence[_ChangedFile]) -> list[str]:
    if not changed:
        return []
    from pathspec import GitIgnoreSpec  # only a repository with changes needs it, and it takes its time

    ours = GitIgnoreSpec.from_lines(_OURS)
    return [file.name for file in changed if ours.match_file(file.name)]


def _judged(top: Path, changed: Sequence[_ChangedFile]) -> Iterator[tuple[str, str]]:
    """Give name and reason of what is left out whatever stands in it."""
    before = _sizes(top, changed)
    for file in changed:
        path = top / file.name
        size = max(before.get(file.before, 0), path.lstat().st_size if os.path.lexists(path) else 0)
        if secretfiles.is_secret_name(file.name):
            yield file.name, "its name is that of a secret"
        elif size > LARGEST_FILE:
            yield file.name, f"{human_size(size)}, more than {human_size(LARGEST_FILE)}"


def _sizes(top: Path, changed: Sequence[_ChangedFile]) -> dict[str, int]:
    """Return the size of each file's content before its change."""
    blobs = "".join(f"{file.before}\n" for file in changed if not _NONE.fullmatch(file.before.encode()))
    lines = _ask(top, "cat-file", "--batch-check=%(objectname) %(objectsize)", stdin=blobs.encode()).decode().splitlines() if blobs else []
    return {name: int(size) for name, _, size in (line.partition(" ") for line in lines) if size.isdigit()}


def _pieces(patch: bytes) -> Iterable[tuple[str, bytes]]:
    """Give the name and the patch of each file; a line of a file's content never begins with these words, it has a sign before it."""
    for piece in re.split(rb"(?m)^(?=diff --git )", patch):
        if piece:
            names = piece[len("diff --git ") :].partition(b"\n")[0]
            quoted = names.startswith(b'"')
            name = names[3:].partition(b'" "')[0] if quoted else names[2 : 2 + (len(names) - 5) // 2]
            yield os.fsdecode(name), piece


def _secret_in(path: Path, piece: bytes) -> str | None:
    """Say what secret stands in the patch of a file, removed lines too; None for none."""
    seen = secretfiles.secret_in(re.sub(rb"(?m)^[-+ ]", b"", piece))
    if seen is None and b"\nGIT binary patch\n" in piece and path.is_file():
        seen = secretfiles.secret_in(path.read_bytes())
    return f"{seen[0]} stands in it" if seen else None


def _ask(top: Path, *words: str, stdin: bytes = b"", index: Path | None = None) -> bytes:
    done = run_git(top, *words, stdin=stdin, index=index)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise UserError(f"{top}: git does not say what is changed: {said or f'it ended with {done.returncode}'}")
    return done.stdout
