"""What git says of ``runs/``: the files of HEAD, the commit that last touched each, and what is not committed."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import UserError, together
from trainyard.runs.gitops.runfile import FOLDER

_LINK, _FOLDER, _SUBMODULE = "120000", "040000", "160000"
"""Modes of git that no file with a run has."""
SHORT = 12
"""Hex digits of a commit in a run's label."""


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A file as HEAD has it."""

    path: str
    text: str
    commit: str
    """The last one that touched it."""


@dataclass(frozen=True, slots=True)
class CommittedRuns:
    """The folder at HEAD."""

    head: str
    files: tuple[CommittedFile, ...]
    uncommitted: tuple[str, ...]
    """Paths that differ from HEAD, or are not in it: new, changed, or removed without a commit."""


def committed_runs(root: Path) -> CommittedRuns:
    """Return what HEAD wants to run; raises UserError outside git, before the first commit, and where a shallow clone hides a commit."""
    head = _git(root, "rev-parse", "--verify", "HEAD^{commit}").strip()
    # Each is "MODE TYPE HASH\tPATH".
    entries = [entry.partition("\t") for entry in _names(root, "ls-tree", "-z", "HEAD", f"{FOLDER}/")]
    modes = {path: words.split()[0] for words, _, path in entries if _is_run_file(path)}
    _refuse_links(modes)
    paths = list(modes)
    commits = {path: _git(root, "log", "-1", "--format=%H", "HEAD", "--", path).strip() for path in paths}
    _refuse_shallow(root, commits)
    changed = _names(root, "diff", "-z", "--name-only", "--relative", "HEAD", "--", FOLDER)
    new = _names(root, "ls-files", "-z", "--others", "--exclude-standard", "--", FOLDER)
    files = (CommittedFile(path, _git(root, "show", f"HEAD:./{path}"), commits[path]) for path in paths)
    return CommittedRuns(head, tuple(files), tuple(sorted(path for path in {*changed, *new} if _is_run_file(path))))


def on_branch_since(root: Path, path: str) -> float:
    """Return when HEAD's branch got the newest change of a file (epoch seconds): the time of the merge, where a merge brought it."""
    return float(_git(root, "log", "-1", "--first-parent", "--format=%ct", "HEAD", "--", path).strip() or 0)


def _is_run_file(path: str) -> bool:
    return path.endswith(".yaml") and path.count("/") == 1


def _refuse_links(modes: dict[str, str]) -> None:
    """Raise UserError for what is no plain file: a link's run would not be named after the commit that changed what it leads to."""
    kinds = {_LINK: "a symbolic link", _FOLDER: "a folder", _SUBMODULE: "a submodule"}
    wrong = [
        UserError(f"{path}: is {kinds[mode]} in git, and a run is named after the last commit of its own file", hint="Commit a plain file.")
        for path, mode in modes.items()
        if mode in kinds
    ]
    if wrong:
        raise together(wrong, "things in the run files")


def _refuse_shallow(root: Path, commits: dict[str, str]) -> None:
    """Raise UserError where the history was cut off at a commit that a file is told of: an older one may have touched it last."""
    if _git(root, "rev-parse", "--is-shallow-repository").strip() != "true":
        return
    edge = Path(_git(root, "rev-parse", "--git-path", "shallow").strip())
    cut = set((edge if edge.is_absolute() else root / edge).read_text(encoding="ascii").split())
    hidden = sorted(path for path, commit in commits.items() if commit in cut)
    if hidden:
        more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        raise UserError(
            f"this clone is shallow: which commit last touched {hidden[0]}{more} is not known, and a run is named after it",
            hint="Fetch all of the history: `fetch-depth: 0` of actions/checkout, GIT_DEPTH: 0 of GitLab; here: git fetch --unshallow",
        )


def _names(root: Path, *words: str) -> list[str]:
    return [name for name in _git(root, *words).split("\0") if name]


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise UserError("git is not on this machine, and runs are named after its commits") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["git says nothing"])[-1]
        raise UserError(
            f"{root}: git does not tell what is committed here: {said}", hint="Runs are started from commits: git init; git commit"
        )
    return done.stdout
