"""The program of all engine tests: builds what ``spec.json`` beside it describes. Copied as ``__main__.py``.

Values: ``"@a.ip"`` is output ``ip`` of resource a, ``"@a"`` its id, ``"!x"`` the secret x, ``"&a"`` a itself.
"""

import json
from pathlib import Path
from typing import Any

import pulumi

HERE = Path(__file__).parent


class Pod(pulumi.CustomResource):
    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None, kind: str = "toy:index:Pod") -> None:
        super().__init__(kind, name, {"ip": None, "password": None, "cloudName": None, "asset": None, **props}, opts)


class Box(pulumi.ComponentResource):
    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("px:index:Box", name, None, opts)


class Toy(pulumi.ProviderResource):
    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("toy", name, props, opts)


made: dict[str, Any] = {}


def value(item: Any) -> Any:
    if isinstance(item, str) and item[:1] == "@":
        name, _, output = item[1:].partition(".")
        return getattr(made[name], output or "id")
    if isinstance(item, str) and item[:1] == "!":
        return pulumi.Output.secret(item[1:])
    if isinstance(item, str) and item[:1] == "&":
        return made[item[1:]]
    if isinstance(item, dict) and "$text" in item:
        return pulumi.StringAsset(item["$text"])
    if isinstance(item, dict) and "$file" in item:
        return pulumi.FileAsset(item["$file"])
    if isinstance(item, dict) and "$secret" in item:
        return pulumi.Output.secret(value(item["$secret"]))
    if isinstance(item, dict):
        return {key: value(part) for key, part in item.items()}
    return [value(part) for part in item] if isinstance(item, list) else item


def alias(item: Any) -> Any:
    if isinstance(item, str):
        return item
    parts = {key: made[part] if key == "parent" and part else part for key, part in item.items()}
    if "parent" in parts and not parts["parent"]:
        parts["parent"] = pulumi.ROOT_STACK_RESOURCE
    return pulumi.Alias(**parts)


def options(asked: Any) -> pulumi.ResourceOptions:
    given: dict[str, Any] = dict(asked or {})
    for key in ("parent", "deleted_with", "provider"):
        if given.get(key) in made:
            given[key] = made[given[key]]
    for key in ("depends_on", "replace_with", "providers"):
        if key in given:
            given[key] = [made[name] for name in given[key]]
    if "aliases" in given:
        given["aliases"] = [alias(item) for item in given["aliases"]]
    if "custom_timeouts" in given:
        given["custom_timeouts"] = pulumi.CustomTimeouts(**given["custom_timeouts"])
    if "transformations" in given:
        label = given["transformations"]
        given["transformations"] = [lambda a: pulumi.ResourceTransformationResult({**a.props, "label": label}, a.opts)]
    return pulumi.ResourceOptions(**given)


def build(item: dict[str, Any]) -> None:
    kind, name = item.get("kind", "pod"), item["name"]
    opts = options(item.get("opts"))
    props = {key: value(part) for key, part in item.get("props", {}).items()}
    if kind == "box":
        made[name] = Box(name, opts)
    elif kind == "provider":
        made[name] = Toy(name, props, opts)
    elif kind == "get":
        made[name] = Pod(item.get("as", name), props, pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(id=value(item["id"]))))
    elif kind == "config":
        made[name] = Pod(name, {"label": pulumi.Config().require_secret(item["key"])}, opts)
    elif kind == "invoke":
        result = pulumi.runtime.invoke("toy:index:say", {"say": item["say"]})
        pulumi.export(name, result.value["said"])
    elif kind == "raise":
        raise RuntimeError("the program fails here")
    elif kind == "outputs":
        made[item["of"]].register_outputs(props)
    elif kind == "export":
        pulumi.export(name, value(item["value"]))
    elif kind == "print":
        print(item["text"])
    elif kind == "python":
        exec(item["code"], {"pulumi": pulumi, "made": made, "Pod": Pod, "Box": Box})
    else:
        made[name] = Pod(item.get("as", name), props, opts)


for part in json.loads((HERE / "spec.json").read_text()):
    build(part)
