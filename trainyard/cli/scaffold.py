"""The files of a repository of one's own: what `trainyard init` writes, what it notes of that, what `trainyard upgrade` compares.

What is alike in Trainyard's own checkout (settings, program, launcher) is taken from there; the rest lies in skeleton/.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainyard import __version__
from trainyard.errors import UserError
from trainyard.fields import Fields
from trainyard.files import write_atomic
from trainyard.nearest import suggest
from trainyard.settings.clouds import BUILT_IN
from trainyard.settings.page import schema_text
from trainyard.settings.variables import account_keys, groups
from trainyard.shipped import shipped
from trainyard.templating import render_file
from trainyard.textfile import read_text
from trainyard.yamlfile import parse_map

RECORD = ".trainyard.json"
PROJECT_FILE = "Pulumi.yaml"
LAUNCHER = "infra/provider/pulumi-resource-trainyard"
PROGRAM = (PROJECT_FILE, "infra/__main__.py", LAUNCHER)
"""Without these nothing can be brought up; in Trainyard's own checkout they are the same."""
SCHEMA, RUN_SCHEMA = "infra/stack.schema.json", "infra/run.schema.json"
"""By them an editor completes and checks a stack's settings and a run file."""
SCHEMAS = (SCHEMA, RUN_SCHEMA)
RESTORED = (*PROGRAM, *SCHEMAS)
"""Who removed one of these did not mean to do without it."""
NOT_EDITED = (LAUNCHER, *SCHEMAS)
"""These hold nothing of a person's: another text is damage, whatever version wrote it."""
CI = ("github",)
GITOPS = ".github/workflows/trainyard-gitops.yml"
_SKELETON = Path(__file__).parent / "skeleton"
_OWN = {
    "tasks.py": "tasks.txt",
    ".env.example": "env.j2",
    "configs/example.yaml": "run.yaml",
    "templates/example/recipe.yaml": "recipe.yaml",
    "templates/example/train.py": "train.txt",
    "playbooks/hello.yml": "playbook.yml",
}
_GITHUB = {".github/workflows/trainyard.yml": "check.j2", GITOPS: "gitops.j2"}
_REAPER = {".github/workflows/trainyard-reaper.yml": "reaper.j2"}
_NOTE = "What `trainyard init` wrote, for `trainyard upgrade`: the sha256 of each file. Keep it in git; it holds no secret."
_SETUP = "pipx install 'trainyard[{}]=={}' && trainyard setup"
_HASH = re.compile(r"[0-9a-f]{64}")
"""Earlier notes hold the texts themselves."""
_AGAIN = f"Take it from git: git checkout {RECORD}   Or remove it and say trainyard init again: it changes nothing that is there."
_OTHER_VERSION = f"Is it of a newer Trainyard (pipx upgrade trainyard), or misspelt? {_AGAIN}"


@dataclass(frozen=True, slots=True)
class Choices:
    """What a person decides: clouds beside this machine, and for whose CI there are files."""

    clouds: tuple[str, ...] = ()
    ci: str | None = None

    def joined(self, other: Choices) -> Choices:
        """Return both: a second init adds, and takes nothing away."""
        return Choices(tuple(dict.fromkeys((*self.clouds, *other.clouds))), other.ci or self.ci)


@dataclass(frozen=True, slots=True)
class Record:
    """What init has written: by which version, for which choices, and the hash of each text as it was."""

    version: str
    choices: Choices
    files: Mapping[str, str]

    def untouched(self, path: str, text: str | None) -> bool:
        """Tell whether a file's text is still the one that was written."""
        return text is not None and self.files.get(path) == digest(text)


def clouds() -> list[str]:
    """Return the clouds that Trainyard brings settings for, beside this machine."""
    return [name for cloud in BUILT_IN if (name := cloud.name) != "local"]


def choices(stacks: Sequence[str], ci: str | None) -> Choices:
    """Return the choices that words name; raises UserError for a word that names nothing."""
    known = [*clouds(), "local"]
    for cloud in stacks:
        if cloud not in known:
            raise UserError(f"--cloud {cloud}: there are no settings for it{suggest(cloud, known)}", hint=f"Clouds: {', '.join(known)}.")
    if ci is not None and ci not in CI:
        raise UserError(f"--ci {ci}: there are no files for it{suggest(ci, CI)}", hint=f"Known: {', '.join(CI)}.")
    return Choices(tuple(dict.fromkeys(cloud for cloud in stacks if cloud != "local")), ci)


def texts(chosen: Choices) -> dict[str, str]:
    """Return the text of each file by its path, the project file last: with it a folder is a repository."""
    stacks = [f"Pulumi.{name}.yaml" for name in ("local", *chosen.clouds)]
    shipped_texts = {path: shipped(path).read_text(encoding="utf-8") for path in (*PROGRAM[1:], *SCHEMAS, *stacks)}
    shipped_texts[SCHEMA] = schema_text()  # with the clouds of other packages, too
    extras = tuple(dict.fromkeys(cloud.extra for cloud in BUILT_IN if cloud.extra and cloud.name in chosen.clouds))
    own = _OWN | (_GITHUB if chosen.ci == "github" else {}) | (_REAPER if chosen.ci == "github" and _keys(chosen) else {})
    known = {
        "keys": _keys(chosen),
        "stores": _stores() if chosen.clouds else (),
        "version": __version__,
        "command": "trainyard",
        "extras": f"[{','.join(extras)}]" if extras else "",
        "setup": _SETUP.format(",".join(("schedules", *extras)), __version__),
    }
    for path, source in own.items():
        file = _SKELETON / source
        shipped_texts[path] = render_file(_SKELETON, source, known) if file.suffix == ".j2" else file.read_text(encoding="utf-8")
    return shipped_texts | {PROJECT_FILE: shipped(PROJECT_FILE).read_text(encoding="utf-8")}


def mode(path: str) -> int:
    """Return the mode that a file is made with, less the umask."""
    return 0o777 if path == LAUNCHER else 0o666


def ignored() -> list[str]:
    """Return the lines that belong into .gitignore."""
    return (_SKELETON / "gitignore.txt").read_text(encoding="utf-8").splitlines()


def digest(text: str) -> str:
    """Return what the note keeps of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def text_at(path: Path) -> str | None:
    """Return a file's text, whatever its line ends; None where there is none to read."""
    try:
        return path.read_bytes().decode().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None


def read_record(root: Path) -> Record | None:
    """Return what init has noted in a repository, None where it was never there; raises UserError for a damaged note."""
    try:
        fields = Fields(parse_map(read_text(root / RECORD, RECORD), RECORD), RECORD)  # JSON is YAML, and each word has its place then
        version, files, ci = fields.text("trainyard"), fields.mapping("files"), fields.text("ci", "") or None
        names = tuple(fields.words("clouds"))
        if not files:
            raise fields.error("files", f"{RECORD}: this is not what init wrote: 'files' is missing")
    except FileNotFoundError:
        return None
    except UserError as error:
        raise UserError(error.message, where=error.where, hint=_AGAIN) from None
    for key, words, known in (("clouds", names, clouds()), ("ci", (ci,), (None, *CI))):
        for word in words:
            if word not in known:
                near = suggest(str(word), [each for each in known if each])
                raise fields.error(key, f"'{word}' is nothing that this version of Trainyard has files for{near}", hint=_OTHER_VERSION)
    hashes = {path: text if _HASH.fullmatch(text := str(said_text)) else digest(text) for path, said_text in files.items()}
    return Record(version, Choices(names, ci), hashes)


def write_record(root: Path, record: Record) -> None:
    """Note what was written."""
    said = {"about": _NOTE, "trainyard": record.version, "clouds": record.choices.clouds, "ci": record.choices.ci, "files": record.files}
    write_atomic(root / RECORD, json.dumps(said, indent=1) + "\n", durable=False)


def _keys(chosen: Choices) -> dict[str, tuple[str, ...]]:
    return {cloud: keys for cloud, keys in account_keys().items() if cloud in chosen.clouds}


def _stores() -> tuple[tuple[str, ...], ...]:
    """Return what each store is told by, as a person fills it in."""
    return tuple((*store.keys, *store.needed, *store.usual) for store in groups("store"))
