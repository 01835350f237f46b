"""Write the pages of docs/ that are made from the code: ``invoke docs --write``.

A test compares them with the code, so they are never older than it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from invoke.collection import Collection

from tests.pages import playbooks
from tests.recipes import oddfiles
from trainyard.settings.clouds import BUILT_IN

DOCS = Path(__file__).resolve().parents[2] / "docs"
NOTE = "<!-- Made by `invoke docs --write`. Do not edit. -->\n\n"


BEGIN, END = "<!-- Made by `invoke docs --write` from {source}. -->\n\n", "\n<!-- End of what is made. -->"
RECIPES = {
    "lora": "lora",
    "summarizer": "summarizer",
    "nanochat": "nanochat",
    "simpletuner": "simpletuner",
    "command": "command",
    "data-builder": "dataset",
    "gguf": "gguf",
}
"""Page of a recipe, and its name."""


def pages() -> dict[str, str]:
    """Return the text of each page that is made, or has a part that is made, by its name."""
    recipes = {
        f"recipes/{page}.md": _filled(f"recipes/{page}.md", f"templates/{name}/recipe.yaml", _variables(name))
        for page, name in RECIPES.items()
    }
    builder = "recipes/data-builder.md"
    recipes[builder] = _filled(builder, "tests/recipes/oddfiles.py", oddfiles.table(), recipes[builder])
    architecture = _filled("architecture.md", "tests/test_imports.py", _layers())
    made = {"commands.md": NOTE + commands(), "provider-reference.md": NOTE + resources(), "architecture.md": architecture}
    requests = {"clouds/requests.md": _filled("clouds/requests.md", "the rows of clouds", _request_fields())}
    return {**made, **recipes, **requests, "clouds.md": _clouds_page(), "playbooks.md": _playbooks_page()}


def _playbooks_page() -> str:
    text = (DOCS / "playbooks.md").read_text(encoding="utf-8")
    for source, (head, rows) in playbooks.tables():
        text = _filled("playbooks.md", source, _table(head, rows), text)
    return text


def _filled(page: str, source: str, text: str, content: str | None = None) -> str:
    """Return a page (else what it holds, where that is told) with a text between its marks."""
    begin = BEGIN.format(source=source)
    head, mark, rest = ((DOCS / page).read_text(encoding="utf-8") if content is None else content).partition(begin)
    assert mark, f"docs/{page} has no place for what is made from {source}"
    return head + begin + text + END + rest.partition(END)[2]


# --- clouds -----------------------------------------------------------------------------------------------------------

STAND_INS = {
    "ssh": (
        "cannot be reached by SSH",
        "the run is the container's command; progress, log and result come through the bucket, and without one such a run is refused; "
        "there is no `invoke ssh`",
    ),
    "self_terminate": (
        "cannot end itself",
        "its watchdog stops the job in time whoever is there; the pod is ended from outside: by the command that drives the run, by "
        "`invoke worker`, or by `invoke reap` from cron or CI. That is said before it is rented",
    ),
    "starts": (
        "starts nothing of ours with its create request",
        "the watchdog comes, and the host key is recorded and pinned, at the first contact over SSH; until then the pod is ended only from "
        "outside, and nothing proves whose machine answers",
    ),
    "deadline": ("is not ended by its cloud at its time", "the pod's own watchdog ends it where it can, and the reaper from outside"),
    "change_markers": (
        "keeps the lease it was rented with",
        "`invoke extend` is refused before anything changes; `invoke resume` goes on in another lease",
    ),
    "bill": ("is on no bill that can be asked for one pod", "its cost is reckoned from its price and its time, and is not compared"),
}
"""What a cloud may lack, of a pod in words, and what stands in."""


def _clouds_page() -> str:
    """Return the page of the clouds: the table, what stands in, and the example."""
    text = _filled("clouds.md", "trainyard/settings/clouds.py", _cloud_table())
    text = _filled("clouds.md", "the rows of clouds", _stand_ins(), text)
    for name in ("nimbus.py", "nimbus_emulator.py"):
        source = (DOCS / "examples" / "nimbus" / name).read_text(encoding="utf-8")
        text = _filled("clouds.md", f"docs/examples/nimbus/{name}", f"```python\n{source}```\n", text)
    return text


def _request_fields() -> str:
    """Return the files of create requests, and which settings their fields stand for."""
    rows = ["| stack's cloud | file | what it may say, and the setting that it stands for |", "|---|---|---|"]
    for cloud in BUILT_IN:
        fields = (f"`{path}`" if path == setting else f"`{path}` ({setting})" for path, setting in cloud.request_edits)
        rows += [f"| `{cloud.name}` | `{cloud.request_file}` | {', '.join(fields)} |"] if cloud.request_file else []
    return "\n".join(rows) + "\n"


def _cloud_table() -> str:
    from trainyard.runs.verbs.clouds import HEADINGS, abilities

    rows = ["| cloud | stack's `cloud` | " + " | ".join(HEADINGS.values()) + " |", "|---|---" + "|---" * len(HEADINGS) + "|"]
    for cloud in BUILT_IN:
        words = " | ".join("yes" if able else "-" for able in abilities(cloud).values())
        rows.append(f"| [{cloud.title}](clouds/{cloud.name}.md) | `{cloud.name}` | {words} |")
    return "\n".join(rows) + "\n"


def _stand_ins() -> str:
    rows = ["| a pod of | | so |", "|---|---|---|"]
    for name, (lack, instead) in STAND_INS.items():
        clouds = ", ".join(f"`{cloud.name}`" for cloud in BUILT_IN if not getattr(cloud, name))
        rows += [f"| {clouds} | {lack} | {instead} |"] if clouds else []
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write each page that is not as it should be; with ``--check`` only name it, and return 1."""
    stale = {DOCS / name: text for name, text in pages().items() if not _holds(DOCS / name, text)}
    for page, text in stale.items():
        if "--check" not in arguments:
            page.write_text(text, encoding="utf-8")
        print(f"{'stale' if '--check' in arguments else 'written'}: docs/{page.relative_to(DOCS)}")
    return int(bool(stale) and "--check" in arguments)


def _holds(page: Path, text: str) -> bool:
    return page.exists() and page.read_text(encoding="utf-8") == text


# --- commands ---------------------------------------------------------------------------------------------------------

COMMANDS = """# Commands

Every command with its options; `invoke --help VERB` prints the same. `trainyard` is the same program
under another name ([your own repository](your-repository.md)). Exit codes are listed in [Troubleshooting](troubleshooting.md#exit-codes).

"""
DEVELOPMENT = """
In a checkout of Trainyard itself there are more, for [those who work on it](../CONTRIBUTING.md):

"""


def commands() -> str:
    """Return the page of the verbs."""
    from tests.verbs import development
    from trainyard.cli.verbs import verbs

    ns, extra = verbs(), Collection()
    development(extra)
    parts = [COMMANDS, _overview(ns), DEVELOPMENT, _overview(extra)]
    for each in (ns, extra):
        contexts = {str(context.name): context for context in each.to_contexts()}
        parts += [f"\n## {name}\n\n{_sentence(each[name].__doc__)}\n\n" + _usage(name, contexts[name]) for name in each.task_names]
    return "".join(parts)


def _overview(ns: Collection) -> str:
    return _table(["command", "what it does"], [[f"[`{name}`](#{_anchor(name)})", _sentence(ns[name].__doc__)] for name in ns.task_names])


def _usage(name: str, context: Any) -> str:
    arguments = {argument.name: argument for argument in context.args.values()}.values()
    words = [argument.name.upper() for argument in arguments if argument.positional]
    rows = [[_option(argument), argument.help or ""] for argument in arguments if not argument.positional or argument.help]
    if not arguments:
        return f"Like this: `invoke {name}`; it takes no option.\n"
    line = " ".join(["invoke", name, *words, *(["  # and, as needed, options of the table"] if len(words) < len(arguments) else [])])
    return f"```sh\n{line}\n```\n" + ("\n" + _table(["option", "is"], rows) if rows else "")


def _option(argument: Any) -> str:
    if argument.positional:
        return f"`{argument.name.upper()}`"
    long, *short = sorted(argument.names, key=len, reverse=True)
    value = "" if argument.kind is bool else " VALUE"
    return ", ".join([*(f"`-{name}`" for name in short), f"`--{long.replace('_', '-')}{value}`"])


def _anchor(name: str) -> str:
    return name.replace(".", "")


# --- the provider's resources -----------------------------------------------------------------------------------------

RESOURCES = """# Provider reference

The resources of the provider `trainyard`, from its own schema (version {version}). How to use them: [Provider](provider.md).

"""


def resources() -> str:
    """Return the page of the provider's resources."""
    from trainyard.provider.schema import schema

    document = json.loads(schema())
    return RESOURCES.format(version=document["version"]) + "\n".join(_resource(token, shape) for token, shape in _sorted(document))


def _sorted(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    order = ("Lease", "Pod", "Endpoint", "SshKey", "Bucket", "BucketLifecycle")
    tokens = sorted(document["resources"], key=lambda token: (*(name != token.rsplit(":", 1)[1] for name in order), token))
    yield from ((token, document["resources"][token]) for token in tokens)


def _resource(token: str, shape: Mapping[str, Any]) -> str:
    required = set(shape["requiredInputs"])
    inputs = [
        [f"`{name}`", _type(value), _default(value, name in required), _notes(value)] for name, value in shape["inputProperties"].items()
    ]
    outputs = [[f"`{name}`", _type(value), _notes(value)] for name, value in shape["properties"].items()]
    return (
        f"## {token.rsplit(':', 1)[1]}\n\n`{token}`: {_lowered(_sentence(shape['description']))}\n\n"
        + _table(["input", "type", "default", "is"], inputs)
        + "\n"
        + _table(["output", "type", "is"], outputs)
    )


def _type(value: Mapping[str, Any]) -> str:
    kind = {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(value["type"], value["type"])
    if kind == "array":
        return "list of text" if "type" in value["items"] else "list of maps"
    return "map of text" if kind == "object" else str(kind)


def _default(value: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    return f"`{json.dumps(value['default'])}`" if "default" in value else ""


def _notes(value: Mapping[str, Any]) -> str:
    notes = [note for key, note in (("willReplaceOnChanges", "A change replaces it."), ("secret", "Secret.")) if value.get(key)]
    return " ".join([_sentence(value["description"]), *notes])


# --- recipes ----------------------------------------------------------------------------------------------------------


def _variables(recipe: str) -> str:
    document = yaml.safe_load((DOCS.parent / "templates" / recipe / "recipe.yaml").read_text(encoding="utf-8"))
    rows = [[_names(name, shape), _kind(shape), _unset(shape), shape["help"]] for name, shape in document["variables"].items()]
    return _table(["variable", "is", "unless set", "means"], rows)


def _names(name: str, shape: Mapping[str, Any]) -> str:
    return ", ".join(f"`{word}`" for word in (name, *shape.get("alias", ())))


def _kind(shape: Mapping[str, Any]) -> str:
    if "choices" in shape:
        return ", ".join(f"`{choice}`" for choice in shape["choices"])
    bounds = [f"{words} {shape[key]}" for key, words in (("min", "at least"), ("above", "above"), ("max", "at most")) if key in shape]
    kinds = {"int": "whole number", "float": "number", "bool": "true or false", "model": "text", "words": "text"}
    kinds |= dict.fromkeys(("script", "rows"), "file")
    return ", ".join([kinds.get(shape["type"], shape["type"]), *bounds])


def _unset(shape: Mapping[str, Any]) -> str:
    if "default" not in shape:
        return "required" if shape.get("required") else ""
    value = shape["default"]
    text = value.removeprefix("= ") if isinstance(value, str) else json.dumps(value).replace('"', "")
    return f"`{text}`"


# --- layers -----------------------------------------------------------------------------------------------------------


def _layers() -> str:
    """Return the layers of the package from top to bottom, as the test of the imports holds them."""
    from tests.test_imports import LAYERS

    package = DOCS.parent / "trainyard"
    rooms = [[name for name in layer if (package / name.replace(".", "/")).is_dir()] for layer in LAYERS]
    return "".join(f"{number}. {', '.join(f'`{name}`' for name in names)}\n" for number, names in enumerate(filter(None, rooms), 1))


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _sentence(text: str | None) -> str:
    words = " ".join((text or "").split())
    return words if not words or words.endswith((".", ":", ")")) else words + "."


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
