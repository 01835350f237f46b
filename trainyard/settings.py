"""The one table of an environment's settings: every ``trainyard:`` key of ``Pulumi.<stack>.yaml``, its type and its choices.

``load()`` is strict: an unknown key, a wrong type or an impossible value is an error with file:line:col, before
anything is done. ``one()`` reads a single key and judges no other: what ends pods must not fail for a misspelt
wish. ``cloud_of()`` is the one rule for the cloud of a stack. Values arrive typed, also those that
``pulumi config set`` wrote as texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.config import PROJECT, stack_document
from trainyard.errors import Location, UserError
from trainyard.nearest import suggest
from trainyard.yamlfile import Map, Node, Seq, reject_unknown

CLOUDS = ("local", "runpod")
STORES = ("local", "runpod", "aws", "r2", "s3")
ENGINES = ("auto", "cli", "builtin")
CONSENTS = ("ask", "always", "never")
LIMIT_ACTIONS = ("block", "warn")
LONGEST_HOURS = 24 * 31
_TOP_LEVEL = ("config", "encryptionsalt", "secretsprovider", "encryptedkey", "environment")
"""What Pulumi knows at the top of a settings file."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Every store's buckets are called like this, RunPod's volumes too."""
_CUDA = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: what it is made of, what it may be, what it means."""

    name: str
    kind: str
    """text, number, whole, flag, texts, mapping or mappings."""
    says: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    pattern: re.Pattern[str] | None = None
    looks_like: str = ""
    secret: bool = False
    """May be a ``secure:`` value: only the program reads it."""


SETTINGS: Mapping[str, Setting] = {
    each.name: each
    for each in (
        Setting("cloud", "text", "where pods are rented; unless set, the cloud of the stack's name", CLOUDS),
        Setting("gpu", "texts", "GPUs in order of preference; none: a pod without GPU"),
        Setting("gpu_count", "whole", "GPUs of a pod (1)", least=1),
        Setting("image", "text", "container image of the pod"),
        Setting("template", "text", "template of the cloud, instead of an image"),
        Setting("image_gb", "number", "size of the image; above 16 GB it gets longer to arrive", least=0),
        Setting("registry", "text", "the cloud's id of the login for a private image", secret=True),
        Setting("disk_gb", "whole", "disk of the pod (100)", least=1),
        Setting("volume", "text", "network volume that the pod mounts"),
        Setting("ports", "texts", "ports to open, like 8888/http (22/tcp)"),
        Setting("regions", "texts", "data centers, countries or continents"),
        Setting("tier", "text", "SECURE, COMMUNITY or ALL, on RunPod (SECURE)"),
        Setting("spot", "flag", "rent what may be taken away (false)"),
        Setting("max_price", "number", "dollars an hour above which nothing is rented", least=0),
        Setting("min_cuda", "text", "least CUDA version of the host's driver", pattern=_CUDA, looks_like="13.0"),
        Setting("min_vram_gb", "number", "least memory of each GPU", least=0),
        Setting("only_offers", "texts", "offers that may be taken, by their ids"),
        Setting("avoid_offers", "texts", "offers that are not taken, by their ids"),
        Setting("pod_env", "mapping", "variables of the container, no secrets", pattern=_VARIABLE, looks_like="NAME", secret=True),
        Setting("pod_secrets", "texts", "variables of yours that the job gets, like HF_TOKEN", pattern=_VARIABLE, looks_like="NAME"),
        Setting("hours", "number", "length of the lease (2)", above=0, most=LONGEST_HOURS),
        Setting(
            "heartbeat_minutes",
            "number",
            "minutes in which an idle pod of a run hears of no controller and ends; 0: never (30)",
            least=0,
        ),
        Setting("rescue_minutes", "number", "from stop to end of the lease (30)", least=0),
        Setting("budget", "number", "dollars after which a run is stopped and saved", above=0),
        Setting("limit_day", "number", "dollars that all runs of a day may cost", least=0),
        Setting("limit_week", "number", "the same for 7 days", least=0),
        Setting("limit_month", "number", "the same for 30 days", least=0),
        Setting("limit_action", "text", "what a limit does (block)", LIMIT_ACTIONS),
        Setting("boot_accepted_minutes", "number", "how long a pod may take to be accepted", least=0),
        Setting("boot_image_minutes", "number", "how long its image may take to arrive", least=0),
        Setting("boot_ssh_minutes", "number", "how long it may take to answer over SSH", least=0),
        Setting("upload_consent", "text", "whether your data may leave this machine (ask)", CONSENTS),
        Setting("bucket", "text", "bucket of results; none: they come home over SSH", pattern=BUCKET_NAME, looks_like="my-results-1"),
        Setting("store", "text", "which store holds the bucket", STORES),
        Setting("lifecycle", "mappings", "rules of the bucket: prefix, expire_days, ..."),
        Setting("ssh_key_file", "text", "your own private SSH key, instead of one made for the stack"),
        Setting("env_id", "text", "id of the environment, 8 hex digits", pattern=re.compile("[0-9a-f]{8}"), looks_like="a0533aa1"),
        Setting("pods", "whole", "pods of the environment itself (0)", least=0),
        Setting("user", "text", "who starts runs (the login name)"),
        Setting("engine", "text", "what executes the program (auto)", ENGINES),
    )
}
"""Every key that an environment's settings may have."""


def load(root: Path, stack: str) -> dict[str, object]:
    """Return all settings of a stack, typed; raises UserError at the first thing in its file that is wrong."""
    document = stack_document(root, stack)
    reject_unknown(document, _TOP_LEVEL, "key")
    given = _config(document)
    found: dict[str, object] = {}
    for full in given:
        name = _name_of(given, full)
        if name is not None:
            found[name] = _value(given, full, SETTINGS[name])
    if "cloud" not in found and stack not in CLOUDS:
        raise UserError(
            f"{PROJECT}:cloud is missing, and stack '{stack}' has no cloud's name",
            where=document.where("config"), hint=f"Clouds: {', '.join(CLOUDS)}.",
        )  # fmt: skip
    if found.get("image") and found.get("template"):
        raise UserError("'image' and 'template' are given both: choose one", where=given.where(f"{PROJECT}:template"))
    if found.get("pods") and found.get("hours") is None:
        where = given.where(f"{PROJECT}:pods")
        raise UserError("a declared pod needs the hours of its lease", where=where, hint=f"Add: {PROJECT}:hours: 2")
    return found


def one(root: Path, stack: str, name: str) -> object:
    """Return one setting, None when it is not given; nothing else of the file is judged but its being YAML."""
    return some(root, stack, name).get(name)


def some(root: Path, stack: str, *names: str) -> dict[str, object]:
    """Return those of these settings that are given; see one()."""
    given = _config(stack_document(root, stack))
    return {name: _value(given, f"{PROJECT}:{name}", SETTINGS[name]) for name in names if f"{PROJECT}:{name}" in given}


def described(setting: Setting) -> str:
    """Return in words what a setting may be, as docs/settings.md shows it."""
    if setting.choices:
        return ", ".join(setting.choices[:-1]) + f" or {setting.choices[-1]}"
    least = f", {setting.least:g} or more" if setting.least is not None else ""
    least += f", more than {setting.above:g}" if setting.above is not None else ""
    most = f", at most {setting.most:g}" if setting.most is not None else ""
    shape = f" like {setting.looks_like}" if setting.looks_like else ""
    return f"{_WANTED[setting.kind]}{shape}{least}{most}"


def cloud_of(root: Path, stack: str) -> str:
    """Return the name of a stack's cloud: its setting, else the stack's own name."""
    return str(one(root, stack, "cloud") or stack)


def store_of(settings: Mapping[str, object], cloud: str) -> str | None:
    """Return the kind of store that settings name: the local cloud keeps its results in the local one unless told otherwise."""
    named = settings.get("store")
    return str(named) if named else "local" if cloud == "local" else None


def _config(document: Map) -> Map:
    config = document.get("config")
    if config is None:
        empty = Map()
        empty.source = document.source
        return empty
    if not isinstance(config, Map):
        raise UserError(f"'config' must hold '{PROJECT}:name: value' lines", where=document.where("config"))
    return config


def _name_of(given: Map, full: str) -> str | None:
    """Return the setting that a key of ``config:`` names, None for another project's; raises UserError for what means nothing."""
    namespace, colon, name = full.partition(":")
    if not colon:
        known = f": write '{PROJECT}:{full}'" if full in SETTINGS else suggest(full, SETTINGS)
        raise UserError(f"'{full}' has no '{PROJECT}:' before it{known}", where=given.where(full))
    if namespace != PROJECT:
        if name in SETTINGS and suggest(namespace, [PROJECT]):
            raise UserError(f"unknown key '{full}' (did you mean '{PROJECT}:{name}'?)", where=given.where(full))
        return None
    if name not in SETTINGS:
        raise UserError(f"unknown setting '{name}'{suggest(name, SETTINGS)}", where=given.where(full))
    return name


def _value(given: Map, full: str, setting: Setting) -> object:
    """Return a value as its type; raises UserError with its place."""
    value, where = given[full], given.where(full, value=True)
    if value is None:
        raise UserError(f"{full} has no value: give one, or leave the line out", where=given.where(full))
    if isinstance(value, Map) and set(value) == {"secure"}:
        if setting.secret:
            return dict(value)
        raise UserError(f"{full} is read before Pulumi decrypts anything: it cannot be 'secure'", where=where)
    found = _TYPES[setting.kind](value)
    if found is None:
        raise UserError(f"{full} must be {_WANTED[setting.kind]}, not {_shown(value)}", where=where)
    _check(full, setting, found, where)
    return found


def _check(full: str, setting: Setting, value: object, where: Location | None) -> None:
    if setting.choices and value not in setting.choices:
        near = suggest(str(value), setting.choices)
        raise UserError(f"{full} must be one of {', '.join(setting.choices)}, not '{value}'{near}", where=where)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if setting.least is not None and value < setting.least:
            raise UserError(f"{full} must be at least {setting.least:g}, not {value:g}", where=where)
        if setting.above is not None and value <= setting.above:
            raise UserError(f"{full} must be more than {setting.above:g}, not {value:g}", where=where)
        if setting.most is not None and value > setting.most:
            raise UserError(f"{full} must be at most {setting.most:g}, not {value:g}", where=where)
    parts = value if isinstance(value, (list, dict)) else [value]
    if setting.pattern is not None:
        for part in parts:
            if not setting.pattern.fullmatch(str(part)):
                raise UserError(f"{full} must look like {setting.looks_like}, not '{part}'", where=where)


def _text(value: Node) -> object:
    """A number is a text where a text is wanted: an id of digits, a version."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value) or None


def _number(value: Node) -> object:
    if isinstance(value, str):
        try:
            value = float(value) if not re.fullmatch(r"[-+]?\d+", value) else int(value)
        except ValueError:
            return None
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15
    return value if good else None


def _whole(value: Node) -> object:
    number = _number(value)
    return int(number) if isinstance(number, (int, float)) and float(number).is_integer() else None


def _flag(value: Node) -> object:
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else value if isinstance(value, bool) else None


def _texts(value: Node) -> object:
    listed = _from_json(value, "[")
    items = [_text(item) for item in (listed if isinstance(listed, list) else [listed])]
    return None if None in items else items


def _mapping(value: Node) -> object:
    found = _from_json(value, "{")
    if not isinstance(found, dict):
        return None
    kept = {name: _entry(item) for name, item in found.items()}
    return None if None in kept.values() else kept


def _entry(value: Node) -> object:
    if isinstance(value, dict):
        return dict(value) if set(value) == {"secure"} else None
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, (bool, int, float)) else None


def _mappings(value: Node) -> object:
    found = _from_json(value, "[")
    return list(found) if isinstance(found, list) and all(isinstance(item, dict) for item in found) else None


def _from_json(value: Node, opening: str) -> Node:
    """Return what a text of JSON holds, as ``pulumi config set`` writes lists and maps; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith(opening):
        try:
            return json.loads(value)  # type: ignore[no-any-return]
        except ValueError:
            return None
    return value


def _shown(value: Node) -> str:
    if isinstance(value, (Map, dict)):
        return "a map"
    if isinstance(value, (Seq, list)):
        return "a list"
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


_TYPES = {
    "text": _text, "number": _number, "whole": _whole, "flag": _flag, "texts": _texts, "mapping": _mapping, "mappings": _mappings,
}  # fmt: skip
_WANTED = {
    "text": "a text", "number": "a number", "whole": "a whole number", "flag": "true or false", "texts": "a text or a list of texts",
    "mapping": "a map of names and values", "mappings": "a list of 'name: value' blocks",
}  # fmt: skip
