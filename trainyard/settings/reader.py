"""Read the settings of a stack from its file, strictly: what is wrong is told with file:line:col before anything is done.

``load()`` judges everything. ``partly()`` reads some keys and judges no other: what ends pods must not fail for a
misspelt wish. A file is parsed once a process, until it changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainyard.config import PROJECT, settings_file
from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.reading import read
from trainyard.settings.flaws import clear_secret, flaw
from trainyard.settings.hosts import own_hosts
from trainyard.settings.limits import limit_rules
from trainyard.settings.setting import Encrypted, Setting
from trainyard.settings.table import SETTINGS, StackSettings, build
from trainyard.textfile import read_text
from trainyard.yamlfile import Map, Node, Seq, parse_map, reject_unknown

_TOP_LEVEL = ("config", "encryptionsalt", "secretsprovider", "encryptedkey", "environment")
"""What Pulumi knows at the top of a settings file."""


@dataclass(slots=True)
class _SettingsFile:
    """What a file held when it was read."""

    version: tuple[int, int, int]
    """Its inode, size and moment of the last write."""
    text: str
    document: Map | None = None


_seen: dict[Path, _SettingsFile] = {}


def load(root: Path, stack: str) -> StackSettings:
    """Return all settings of a stack; raises UserError at the first thing in its file that is wrong."""
    document = _document(settings_file(root, stack))
    _refuse_misplaced(document)
    reject_unknown(document, _TOP_LEVEL, "key")
    config = _config(document)
    names = {name: full for full in config if (name := _name_of(config, full)) is not None}
    settings = build({name: _value(config, full, SETTINGS[name]) for name, full in names.items()}, stack)
    wrong = flaw(settings, stack) or clear_secret(settings)
    if wrong is not None:
        at = f"{PROJECT}:{wrong.at}"
        inner = config.get(at)
        where = config.where(at) if at in config else document.where("config")
        if isinstance(inner, Map) and wrong.item in inner:
            where = inner.where(wrong.item)
        raise UserError(f"{PROJECT}:{wrong.name} {wrong.message}", where=where, hint=wrong.hint)
    limit_rules(settings.limits)
    own_hosts(settings.hosts)
    return settings


def partly(root: Path, stack: str, *names: str) -> StackSettings:
    """Return settings of which only ``names`` and the cloud are read; nothing else of the file is judged but its being YAML."""
    return partly_at(settings_file(root, stack), stack, *names)


def partly_at(path: Path, stack: str, *names: str) -> StackSettings:
    """Do what partly() does with the file of any stack, a run's too."""
    config = _config(_document(path))
    full_keys = {name: f"{PROJECT}:{name}" for name in ("cloud", *names)}
    return build({name: _value(config, full, SETTINGS[name]) for name, full in full_keys.items() if full in config}, stack)


def cloud_of(root: Path, stack: str) -> str:
    """Return the name of a stack's cloud: its setting, else the stack's own name."""
    return partly(root, stack).cloud


def place_of(root: Path, stack: str, name: str) -> Location | None:
    """Return where a setting's value stands in its file."""
    return _config(_document(settings_file(root, stack))).where(f"{PROJECT}:{name}", value=True)


def place_of_item(root: Path, stack: str, name: str, item: str) -> Location | None:
    """Return where one text of a setting's list stands, in whatever case; where the value does, when it is no list."""
    items = _config(_document(settings_file(root, stack))).get(f"{PROJECT}:{name}")
    index = next((i for i, one in enumerate(items) if str(one).lower() == item.lower()), None) if isinstance(items, Seq) else None
    return items.where(index) if isinstance(items, Seq) and index is not None else place_of(root, stack, name)


def text_of(path: Path) -> str:
    """Return what a settings file holds; it is read once a process, and again when it has changed.

    Raises UserError for a file that is not there or is no text.
    """
    return _file(path).text


def _file(path: Path) -> _SettingsFile:
    try:
        status = path.stat()
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        if path not in _seen or _seen[path].version != version:
            _seen[path] = _SettingsFile(version, read_text(path, path.name))
    except FileNotFoundError:
        raise UserError(f"{path.name}: there is no such file") from None
    return _seen[path]


def _document(path: Path) -> Map:
    """Return a file as it stands, with the places of its keys."""
    file = _file(path)
    if file.document is None:
        file.document = parse_map(file.text, path.name)
    return file.document


def _refuse_misplaced(document: Map) -> None:
    """Refuse a setting that stands at the top of the file."""
    for key in document:
        bare = key.removeprefix(f"{PROJECT}:")
        if bare in SETTINGS and key not in _TOP_LEVEL:
            hint = f"In the file:\nconfig:\n  {PROJECT}:{bare}: VALUE"
            raise UserError(f"'{key}' belongs below 'config:', as '{PROJECT}:{bare}'", where=document.where(key), hint=hint)


def _config(document: Map) -> Map:
    config = document.get("config")
    if config is None:
        empty = Map()
        empty.source = document.source
        return empty
    if not isinstance(config, Map):
        raise UserError(f"'config' must hold '{PROJECT}:name: value' lines", where=document.where("config"))
    return config


def _name_of(config: Map, full: str) -> str | None:
    """Return the setting that a key of ``config:`` names, None for another project's; raises UserError for what means nothing."""
    namespace, colon, name = full.partition(":")
    if not colon or not namespace:
        bare = full.removeprefix(":")
        known = f": write '{PROJECT}:{bare}'" if bare in SETTINGS else suggest(bare, SETTINGS)
        raise UserError(f"'{full}' has no '{PROJECT}:' before it{known}", where=config.where(full))
    if namespace != PROJECT:
        if name in SETTINGS and suggest(namespace, [PROJECT]):
            raise UserError(f"unknown key '{full}' (did you mean '{PROJECT}:{name}'?)", where=config.where(full))
        return None
    if name not in SETTINGS:
        raise UserError(f"unknown setting '{name}'{suggest(name, SETTINGS)}", where=config.where(full))
    return name


def _value(config: Map, full: str, setting: Setting) -> object:
    """Return a value as its type; raises UserError with its place."""
    value, where = config[full], config.where(full, value=True)
    if value is None:
        raise UserError(f"{full} has no value: give one, or leave the line out", where=config.where(full))
    secret = _encrypted(value)
    if secret is not None:
        return _allowed(secret, full, setting, where)
    inside = {name: cipher for name, item in value.items() if (cipher := _encrypted(item)) is not None} if isinstance(value, Map) else {}
    for item in inside.values():
        _allowed(item, full, setting, where)
    try:
        typed = read(setting.shape, {**value, **dict.fromkeys(inside, "")} if inside and isinstance(value, Map) else value, full)
    except UserError as error:
        raise UserError(error.message, where=where) from None
    return {**typed, **inside} if isinstance(typed, dict) else typed


def _encrypted(value: Node) -> Encrypted | None:
    cipher = value["secure"] if isinstance(value, dict) and set(value) == {"secure"} else None
    return Encrypted(cipher) if isinstance(cipher, str) else None


def _allowed(secret: Encrypted, full: str, setting: Setting, where: Location | None) -> Encrypted:
    if not setting.secret:
        raise UserError(f"{full} is read before Pulumi decrypts anything: it cannot be 'secure'", where=where)
    return secret


def as_written(value: object) -> object:
    """Return a typed value as a settings file holds it."""
    if isinstance(value, Encrypted):
        return {"secure": value.ciphertext}
    if isinstance(value, dict):
        return {name: as_written(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def explicit_values(settings: StackSettings) -> dict[str, object]:
    """Return what a person has set, as the file holds it."""
    return {name: as_written(getattr(settings, name)) for name in SETTINGS if name in settings.explicit}
