"""What a run was made of, kept in its folder and beside its logs in the bucket, so that it can be looked at and run again.

snapshot.json     commit of each repository, what its patch holds and what it leaves out, locks and data by their sha256
checkout.patch    what was not committed in the repository of the settings and recipes; `git apply` takes it
code.patch        the same of the repository of the person's own code, where that is another one
settings.yaml     the stack's settings as they held for the run; a secret is only named
templates/        the recipe as it was: what it is rendered from again
request/          the edited create request that the run was asked for with, where it was

The bundle lies beside it: the rendered scripts, the code that went along, every byte of it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trainyard
from trainyard import yamlfile
from trainyard.config import PROJECT
from trainyard.errors import TrainyardError
from trainyard.files import sha256_of
from trainyard.jsontext import parse_json
from trainyard.recipes import secretfiles
from trainyard.recipes.code import Code
from trainyard.recipes.codefiles import in_repository
from trainyard.recipes.contract import TEMPLATES, Recipe
from trainyard.recipes.summaries import DataFile, Values
from trainyard.recipes.uncommitted import LARGEST_FILE, top_of, uncommitted
from trainyard.recipes.variables import FILES
from trainyard.runs.records import codec
from trainyard.settings.reader import as_written
from trainyard.settings.setting import is_secret
from trainyard.settings.table import SETTINGS, StackSettings
from trainyard.sizes import human_size

DOCUMENT, SETTINGS_FILE = "snapshot.json", "settings.yaml"
CHECKOUT, CODE, REQUEST = "checkout", "code", "request"
_HIDDEN = "(encrypted)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySnapshot:
    """One git repository as it was when a run was prepared."""

    of: str
    """checkout or code."""
    commit: str | None = None
    patch: str | None = None
    """The file beside snapshot.json; None: nothing was changed, or nothing of it could be kept."""
    patch_bytes: int = 0
    files: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    apart: tuple[str, ...] = ()
    """Changed settings of stacks: what the run had of them is in settings.yaml."""
    problem: str | None = None
    """Why git could not be asked."""

    @property
    def described(self) -> str | None:
        """The commit, ``-dirty`` behind it when files differed."""
        dirty = "-dirty" if self.files or self.left_out or self.apart else ""
        return self.commit and self.commit + dirty

    def __str__(self) -> str:
        if self.commit is None:
            return f"{self.of}: {self.problem or 'nothing is committed yet'}"
        changes = f" + {len(self.files)} changed ({human_size(self.patch_bytes)})" if self.patch else ""
        cut = f", {len(self.left_out)} changed left out" if self.left_out else ""
        return f"{self.of} {self.commit[:12]}{changes}{cut}{f', {self.problem}' if self.problem else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What ``snapshot.json`` holds; its names are a format that other versions read: add fields with a default, rename none."""

    trainyard: str
    repositories: tuple[RepositorySnapshot, ...] = ()
    locks: dict[str, str]
    """Name in the bundle -> sha256."""
    data: tuple[DataFile, ...] = ()
    bundle_sha256: str = ""
    again: str | None = None
    """The attempt that was run again: repositories, patches and templates are those of its snapshot."""

    def left_out(self) -> list[str]:
        """Return what a person would look for in a patch in vain, with the reasons."""
        return [f"{name} ({why})" for of in self.repositories for name, why in of.left_out]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSource:
    """What a snapshot is taken of."""

    root: Path
    recipe: Recipe
    values: Values
    code: Code | None
    """The code that goes along, as it lies in a person's folder; None where it comes from an earlier bundle, too."""
    settings: StackSettings
    data: Sequence[DataFile]
    bundle: Path
    bundle_sha256: str
    again: str | None = None
    before: Path | None = None
    """The snapshot of the attempt that is run again."""
    request: tuple[str, str] | None = None
    """Name and text of the edited create request that the run is asked for with."""


def take(source: SnapshotSource, to: Path) -> Snapshot:
    """Write the snapshot of a run into a new folder and return what it says; where git does not answer, that is said in it.

    Raises OSError where it cannot be written.
    """
    to.mkdir(parents=True)
    earlier = read(source.before) if source.before else None
    if source.before is not None and earlier is not None:
        shutil.copytree(source.before, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns(DOCUMENT, SETTINGS_FILE, REQUEST))
        repositories = earlier.repositories
    else:
        repositories = tuple(_repositories(source, to))
        _keep_templates(source.recipe, to / TEMPLATES)
    if source.request is not None:
        (to / REQUEST).mkdir()
        (to / REQUEST / source.request[0]).write_text(source.request[1], encoding="utf-8")
    locks = {path.name: sha256_of(path) for path in sorted(source.bundle.glob("*.lock"))}
    snapshot = Snapshot(
        trainyard=trainyard.__version__, repositories=repositories, locks=locks, data=tuple(source.data),
        bundle_sha256=source.bundle_sha256, again=source.again,
    )  # fmt: skip
    (to / SETTINGS_FILE).write_text(yamlfile.dump({"config": _settings(source.settings)}), encoding="utf-8")
    (to / DOCUMENT).write_text(json.dumps(asdict(snapshot), indent=1) + "\n", encoding="utf-8")
    return snapshot


def read(folder: Path) -> Snapshot | None:
    """Return what a snapshot says; None where there is none, or none that this version understands."""
    try:
        return codec.read(Snapshot, parse_json((folder / DOCUMENT).read_bytes()))
    except (OSError, ValueError):
        return None


def settings_of(folder: Path) -> Mapping[str, object]:
    """Return the settings that a snapshot keeps, by name; empty where it keeps none."""
    path = folder / SETTINGS_FILE
    config = yamlfile.load_map(path).get("config") if path.is_file() else None
    return {name.removeprefix(f"{PROJECT}:"): value for name, value in config.items()} if isinstance(config, dict) else {}


def digest(folder: Path) -> str:
    """Return one sha256 for all files of a snapshot: their names and contents."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _repositories(source: SnapshotSource, to: Path) -> list[RepositorySnapshot]:
    files = [Path(str(source.values[one.name])) for one in source.recipe.variables if one.kind in FILES and source.values.get(one.name)]
    used = [source.recipe.folder, *(path.absolute() for path in files)]
    own = source.code.root if source.code else None
    untracked = [source.code.root / name for name in source.code.untracked] if source.code else []
    tops = {_top(folder): name for name, folder in ((CODE, own), (CHECKOUT, source.root)) if folder is not None}
    return [_repository(name, top, used, untracked, to) for top, name in tops.items() if top is not None]


def _top(folder: Path) -> Path | None:
    """Return the top of a folder's repository; the folder itself where git does not answer, which is told when it is asked on."""
    if not in_repository(folder):
        return None
    try:
        return top_of(folder.resolve()) or folder
    except TrainyardError:
        return folder


def _repository(name: str, top: Path, used: Sequence[Path], untracked: Sequence[Path], to: Path) -> RepositorySnapshot:
    try:
        seen = uncommitted(top, [path.resolve() for path in used], [path.parent.resolve() / path.name for path in untracked])
    except (OSError, ValueError, TrainyardError) as error:
        return RepositorySnapshot(of=name, problem=str(error))
    file = f"{name}.patch" if seen.patch else None
    if file:
        (to / file).write_bytes(seen.patch)
    return RepositorySnapshot(
        of=name, commit=seen.commit, patch=file, patch_bytes=len(seen.patch), files=seen.files, left_out=seen.left_out, apart=seen.apart
    )  # fmt: skip


def _keep_templates(recipe: Recipe, to: Path) -> None:
    """Copy what a recipe is rendered from: small files that hold no secret; a big one of them was no template."""
    for folder, target in [*((common, to / "common") for common in reversed(recipe.common)), (recipe.folder, to / recipe.name)]:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if not path.is_file() or "__pycache__" in path.parts or path.stat().st_size > LARGEST_FILE:
                continue
            content = path.read_bytes()
            if secretfiles.secret_in(content) is None:
                place = target / path.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)


def _settings(settings: StackSettings) -> dict[str, object]:
    """Return the settings that are no defaults, secrets by their names alone."""
    values = {name: getattr(settings, name) for name, setting in SETTINGS.items()}
    held = {
        name: value
        for name, value in values.items()
        if value is not None and (name in settings.explicit or value != SETTINGS[name].default)
    }
    return {f"{PROJECT}:{name}": as_written(_without_secrets(value)) for name, value in held.items()}


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_secrets(item) for name, item in value.items()}
    return _HIDDEN if is_secret(value) else value
