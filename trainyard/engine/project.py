"""Pulumi.yaml and Pulumi.<stack>.yaml: what the program is, and its settings as the SDK and the providers get them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainyard.engine.codec import whole
from trainyard.engine.document import Map, load_map, parse_json, suggest
from trainyard.engine.hook import EngineError, RefusedError, UserError
from trainyard.engine.kinds import SecretValue
from trainyard.engine.secrets import Crypter

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
DENIED_DEFAULTS = "pulumi:disable-default-providers"
SERVED_KEYS = (DENIED_DEFAULTS, "pulumi:tags")
"""Settings of Pulumi itself that mean something here (tags are for the service); all other ``pulumi:`` keys are refused."""
_REGISTRY_PACKAGE = re.compile(r"^[a-z0-9][a-z0-9-]*(@[0-9A-Za-z.+-]+)?$")


@dataclass(frozen=True, slots=True)
class Project:
    """A project file: where the program is and which local plugins it brings."""

    name: str
    root: Path
    program: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    backend: str = ""
    plugins: Mapping[str, Path] = field(default_factory=dict)
    config: Map = field(default_factory=Map)

    @property
    def workdir(self) -> Path:
        """The folder in which the program and its plugins run."""
        return self.program if self.program.is_dir() else self.program.parent


@dataclass(frozen=True, slots=True)
class StackConfig:
    """The settings of a stack: text by full key (``namespace:name``), and which of them are secret."""

    values: Mapping[str, str]
    secret_keys: frozenset[str]

    def of_package(self, package: str) -> dict[str, Any]:
        """Return a package's settings as its default provider gets them."""
        prefix = package + ":"
        matching = {key[len(prefix) :]: (key, value) for key, value in self.values.items() if key.startswith(prefix)}
        return {name: SecretValue(value) if key in self.secret_keys else value for name, (key, value) in matching.items()}

    def denied_defaults(self) -> list[str]:
        """Return the packages that may have no default provider (``*``: none may)."""
        text = self.values.get(DENIED_DEFAULTS, "")
        try:
            names = parse_json(text) if text else []
        except ValueError:
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"'{DENIED_DEFAULTS}' must be a list of packages")
        return [name.strip() for name in names]


def load_project(folder: Path) -> Project:
    """Return the project of a folder (or of the nearest one above that has a Pulumi.yaml)."""
    for candidate in (folder.absolute(), *folder.absolute().parents):
        path = candidate / "Pulumi.yaml"
        if path.is_file():
            return _project(path)
    raise UserError(f"no Pulumi.yaml in {folder} or above it")


def settings_path(project: Project, stack: str, config_file: Path | None) -> Path:
    """Return where the stack's settings are."""
    return config_file if config_file is not None else project.root / f"Pulumi.{stack}.yaml"


def load_stack_file(path: Path) -> Map:
    """Return a stack's settings file; one that does not exist is empty."""
    document = load_map(path, name=path.name) if path.exists() else Map()
    provider = document.get("secretsprovider")
    if provider not in (None, "", "passphrase", "default"):
        raise RefusedError(
            f"secrets provider '{provider}' is not supported by the built-in engine", where=document.where("secretsprovider")
        )
    for key in ("environment", "encryptedkey"):
        if document.get(key):
            raise RefusedError(f"'{key}' is not supported by the built-in engine", where=document.where(key))
    return document


def salt_in(document: Map) -> str | None:
    """Return the salt of a settings file, None when it has none."""
    salt = document.get("encryptionsalt")
    return salt if isinstance(salt, str) and salt else None


def has_secrets(document: Map) -> bool:
    """Say whether a settings file holds a secret."""
    return _holds_secure(document.get("config"))


def load_settings(project: Project, document: Map, crypter: Crypter | None) -> StackConfig:
    """Return the settings of a stack with the project's defaults filled in."""
    config = document.get("config") or Map()
    if not isinstance(config, Map):
        raise UserError("'config' must hold 'namespace:name: value' lines", where=document.where("config"))
    values: dict[str, str] = {}
    secret: set[str] = set()
    texts: dict[str, Any] = {}
    for key in config:
        if key.startswith("pulumi:") and key not in SERVED_KEYS:
            raise RefusedError(f"setting '{key}': not supported by the built-in engine", where=config.where(key))
        if ":" not in key:
            raise UserError(f"'{key}' must be written with its namespace, as '{project.name}:{key}'", where=config.where(key))
        texts[key] = _clear(config[key], crypter, config, key)
        values[key] = config_text(texts[key])
        if _holds_secure(config[key]):
            secret.add(key)
    _fill_defaults(project, texts, values, secret)
    return StackConfig(values, frozenset(secret))


def config_text(value: Any) -> str:
    """Return a setting as the SDK gets it: text as it is, numbers and flags as the CLI prints them, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return _number(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _project(path: Path) -> Project:
    document = load_map(path, name=path.name)
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise UserError("the project has no name", where=document.where("name"))
    runtime = document.get("runtime")
    options: Mapping[str, Any] = {}
    if isinstance(runtime, Map):
        nested = runtime.get("options")
        options = nested if isinstance(nested, Map) else {}
        runtime = runtime.get("name")
    if runtime != "python":
        raise RefusedError(f"runtime '{runtime}' is not supported by the built-in engine, only python", where=document.where("runtime"))
    _refuse_options(document)
    backend = document.get("backend")
    config = document.get("config")
    main = document.get("main")
    program = (path.parent / str(main)).resolve() if main else path.parent.resolve()
    if not program.exists():
        raise UserError(f"'main' names {main}, which does not exist", where=document.where("main"))
    url = str(backend.get("url") or "") if isinstance(backend, Map) else ""
    return Project(
        name,
        path.parent.resolve(),
        program,
        options,
        url,
        _local_plugins(document, path.parent.resolve()),
        config if isinstance(config, Map) else Map(),
    )


def _refuse_options(document: Map) -> None:
    options = document.get("options")
    if isinstance(options, Map) and options.get("refresh"):
        raise RefusedError("'options: refresh' is not supported by the built-in engine", where=options.where("refresh"))
    for key in ("stackConfigDir",):
        if document.get(key):
            raise RefusedError(f"'{key}' is not supported by the built-in engine", where=document.where(key))
    plugins = document.get("plugins")
    for key in ("analyzers", "languages"):
        if isinstance(plugins, Map) and plugins.get(key):
            raise RefusedError(f"'plugins: {key}' is not supported by the built-in engine", where=plugins.where(key))


def _local_plugins(document: Map, root: Path) -> dict[str, Path]:
    """Return the folders of the plugins that the project names itself."""
    result: dict[str, Path] = {}
    packages = document.get("packages")
    if isinstance(packages, Map):
        for name, source in packages.items():
            if isinstance(source, str) and (source.startswith((".", "/")) or (root / source).is_dir()):
                result[name] = (root / source).resolve()
            elif not isinstance(source, str) or not _REGISTRY_PACKAGE.match(source):
                raise RefusedError(
                    f"package '{name}' is not a local folder: the built-in engine downloads nothing", where=packages.where(name)
                )
    plugins = document.get("plugins")
    providers = plugins.get("providers") if isinstance(plugins, Map) else None
    if isinstance(providers, list):
        for item in providers:
            if isinstance(item, Map) and isinstance(item.get("name"), str) and isinstance(item.get("path"), str):
                result[str(item["name"])] = (root / str(item["path"])).resolve()
    return result


def _fill_defaults(project: Project, texts: dict[str, Any], values: dict[str, str], secret: set[str]) -> None:
    for key, declared in project.config.items():
        full = key if ":" in key else f"{project.name}:{key}"
        where = project.config.where(key)
        if full.startswith("pulumi:") and full not in SERVED_KEYS:
            raise RefusedError(f"setting '{full}': not supported by the built-in engine", where=where)
        if not isinstance(declared, Map):
            if full not in values and declared is not None:
                values[full] = config_text(declared)
            continue
        if full in texts:
            _check_type(full, texts[full], declared.get("type"))
            if declared.get("secret") is True and full not in secret:
                raise UserError(f"setting '{full}' must be encrypted: the project declares it a secret", where=where)
            continue
        default = declared.get("default") if "default" in declared else declared.get("value")
        if default is None:
            if "default" in declared or "value" in declared or declared.get("type") is None:
                continue
            near = suggest(full, values)
            raise UserError(f"setting '{full}' is missing: the project declares it without a default{near}", where=where)
        values[full] = config_text(default)


def _check_type(key: str, value: Any, declared: Any) -> None:
    expected = _TYPES.get(str(declared)) if declared is not None else None
    if expected is None:
        return
    if isinstance(value, str) and expected != (str,):  # the CLI stores what `config set` was given as text
        try:
            value = parse_json(value)
        except ValueError:
            raise UserError(f"setting '{key}' must be of type '{declared}'") from None
    if isinstance(value, bool) != (expected == (bool,)) or not isinstance(value, expected):
        raise UserError(f"setting '{key}' must be of type '{declared}'")


def _holds_secure(value: Any) -> bool:
    if isinstance(value, dict):
        return _is_secure(value) or any(map(_holds_secure, value.values()))
    return isinstance(value, list) and any(map(_holds_secure, value))


def _is_secure(value: dict[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get("secure"), str)


def _clear(value: Any, crypter: Crypter | None, config: Map, key: str) -> Any:
    if isinstance(value, dict):
        if _is_secure(value):
            if crypter is None:
                raise EngineError("a secret setting cannot be read without the passphrase", where=config.where(key))
            return crypter.decrypt(value["secure"])
        return {name: _clear(item, crypter, config, key) for name, item in value.items()}
    if isinstance(value, list):
        return [_clear(item, crypter, config, key) for item in value]
    return value


def _number(value: float) -> str:
    """Print a number as Go's %v does: shortest digits, exponent below 1e-4 and from 1e21 on."""
    value = whole(value) if isinstance(value, float) else value
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    if "e" not in text or not 1e-5 <= abs(value) < 1e21:
        return text
    return f"{value:.17f}".rstrip("0").rstrip(".") if abs(value) >= 1e-4 else text
