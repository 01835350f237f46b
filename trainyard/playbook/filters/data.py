"""Filters for lists, mappings and what JSON and YAML say of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jinja2
import yaml

from trainyard import yamlfile
from trainyard.jsontext import parse_json

_MERGES = ("replace", "keep", "append", "prepend", "append_rp", "prepend_rp")


def _dict2items(value: Any, key_name: str = "key", value_name: str = "value") -> list[dict[str, Any]]:
    return [{key_name: key, value_name: item} for key, item in _mapping(value, "dict2items").items()]


def _items2dict(value: Any, key_name: str = "key", value_name: str = "value") -> dict[Any, Any]:
    try:
        return {item[key_name]: item[value_name] for item in _sequence(value, "items2dict")}
    except (KeyError, TypeError):
        raise ValueError(f"items2dict needs mappings with '{key_name}' and '{value_name}'") from None


def _combine(*terms: Any, recursive: bool = False, list_merge: str = "replace") -> Any:
    if list_merge not in _MERGES:
        raise ValueError(f"combine: list_merge is one of {', '.join(_MERGES)}")
    result: dict[Any, Any] = {}
    for term in _flatten(list(terms), levels=1):
        result = _merged(result, _mapping(term, "combine"), recursive, list_merge)
    return result


def _merged(low: Mapping[Any, Any], high: Mapping[Any, Any], recursive: bool, list_merge: str) -> dict[Any, Any]:
    result = dict(low)
    for key, new in high.items():
        old = result.get(key)
        if recursive and isinstance(old, Mapping) and isinstance(new, Mapping):
            result[key] = _merged(old, new, recursive, list_merge)
        elif isinstance(old, list) and isinstance(new, list):
            result[key] = _lists(old, new, list_merge)
        else:
            result[key] = new
    return result


def _lists(old: list[Any], new: list[Any], how: str) -> list[Any]:
    if how in ("replace", "keep"):
        return new if how == "replace" else old
    kept = [item for item in old if item not in new] if how.endswith("_rp") else old
    return kept + new if how.startswith("append") else new + kept


def _flatten(value: Any, levels: int | None = None, skip_nulls: bool = True) -> list[Any]:
    result: list[Any] = []
    for item in _sequence(value, "flatten"):
        if skip_nulls and item in (None, "None", "null"):
            continue
        if not isinstance(item, (list, tuple)) or (levels is not None and levels < 1):
            result.append(item)
        else:
            result += _flatten(item, None if levels is None else levels - 1, skip_nulls)
    return result


def _subelements(value: Any, path: Any, skip_missing: bool = False) -> list[tuple[Any, Any]]:
    steps = path.split(".") if isinstance(path, str) else path
    items = list(value.values()) if isinstance(value, Mapping) else value
    pairs: list[tuple[Any, Any]] = []
    for item in _sequence(items, "subelements"):
        inside = item
        for step in steps:
            if isinstance(inside, Mapping) and step not in inside and skip_missing:
                inside = []
                break
            if not isinstance(inside, Mapping) or step not in inside:
                raise ValueError(f"subelements: there is no '{step}' in an item")
            inside = inside[step]
        pairs += [(item, one) for one in _sequence(inside, "subelements")]
    return pairs


@jinja2.pass_environment
def _extract(env: jinja2.Environment, key: Any, container: Any, more: Any = None) -> Any:
    for step in [key, *(more if isinstance(more, list) else [] if more is None else [more])]:
        container = env.getitem(container, step)
    return container


def _rekey(value: Any, key: str, duplicates: str = "error") -> dict[Any, Any]:
    if duplicates not in ("error", "overwrite"):
        raise ValueError("rekey_on_member: duplicates is 'error' or 'overwrite'")
    result: dict[Any, Any] = {}
    for item in value.values() if isinstance(value, Mapping) else _sequence(value, "rekey_on_member"):
        name = _mapping(item, "rekey_on_member").get(key)
        if key not in item:
            raise ValueError(f"rekey_on_member: an item has no '{key}'")
        if name in result and duplicates == "error":
            raise ValueError(f"rekey_on_member: '{name}' is there twice")
        result[name] = item
    return result


def _to_json(value: Any, **options: Any) -> str:
    for name in ("profile", "vault_to_text", "preprocess_unsafe"):
        options.pop(name, None)
    return json.dumps(value, **{"default": str, **options})


def _to_nice_json(value: Any, indent: int = 4, sort_keys: bool = True, **options: Any) -> str:
    return _to_json(value, **{**options, "indent": indent, "sort_keys": sort_keys, "separators": (",", ": ")})


class _PlainDumper(yaml.SafeDumper):
    """Writes subclasses of texts and numbers as what they are."""


_PlainDumper.add_multi_representer(str, lambda dumper, value: dumper.represent_data(str(value)))
_PlainDumper.add_multi_representer(int, lambda dumper, value: dumper.represent_data(int(value)))


def _to_yaml(value: Any, default_flow_style: bool | None = None, **options: Any) -> str:
    text = yaml.dump(value, Dumper=_PlainDumper, allow_unicode=True, default_flow_style=default_flow_style, **options)
    return str(text).removesuffix("...\n") if not isinstance(value, (list, dict)) else str(text)


def _to_nice_yaml(value: Any, indent: int = 4, default_flow_style: bool = False, **options: Any) -> str:
    return _to_yaml(value, indent=indent, default_flow_style=default_flow_style, **options)


def _from_json(text: Any, profile: str | None = None) -> Any:
    return parse_json(text)


def _from_yaml(text: Any) -> Any:
    return yamlfile.parse(text, "from_yaml", rules="1.1") if isinstance(text, str) else text


def _from_yaml_all(text: Any) -> Any:
    return [] if text is None else yamlfile.parse_all(text, "from_yaml_all", rules="1.1") if isinstance(text, str) else text


def _mapping(value: Any, who: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{who} is for mappings, not for {type(value).__name__}")
    return value


def _sequence(value: Any, who: str) -> Iterable[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise TypeError(f"{who} is for lists, not for {type(value).__name__}")
    return value


FILTERS: dict[str, Callable[..., Any]] = {
    "combine": _combine, "dict2items": _dict2items, "extract": _extract, "flatten": _flatten, "from_json": _from_json,
    "from_yaml": _from_yaml, "from_yaml_all": _from_yaml_all, "items2dict": _items2dict, "rekey_on_member": _rekey,
    "subelements": _subelements, "to_json": _to_json, "to_nice_json": _to_nice_json, "to_nice_yaml": _to_nice_yaml,
    "to_yaml": _to_yaml,
}  # fmt: skip
