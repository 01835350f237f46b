"""Ask ansible-core what each case of ``ansible_values.json`` is; run by a Python that has it: ``python record_values.py FOLDER``.

FOLDER holds the files of ``test_values.FILES``. New cases are rows ``[kind, text, []]``; every row gets its answer anew.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

from ansible import release  # type: ignore[import-not-found]
from ansible._internal._datatag._tags import TrustedAsTemplate  # type: ignore[import-not-found]
from ansible._internal._templating._engine import TemplateEngine, TemplateOptions  # type: ignore[import-not-found]
from ansible.parsing.dataloader import DataLoader  # type: ignore[import-not-found]
from ansible.plugins.loader import init_plugin_loader  # type: ignore[import-not-found]

RECORD = Path(__file__).parent / "ansible_values.json"


def trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return TrustedAsTemplate().tag(value) if isinstance(value, str) else value


def shape(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return ["dict", [[shape(key), shape(item)] for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return ["list", [shape(item) for item in value]]
    if isinstance(value, float):
        return ["float", repr(value)]
    for kind in (str, bool, int, datetime.datetime):
        if isinstance(value, kind):
            return [kind.__name__, str(value) if kind in (str, datetime.datetime) else value]
    return [type(value).__name__, value if value is None else str(value)]


def answer(engine: Any, kind: str, text: str) -> list[Any]:
    try:
        if kind == "condition":
            return ["bool", engine.evaluate_conditional(trusted(text))]
        if kind == "value":
            return shape(engine.template(trusted(text)))
        result = engine.template(trusted(text), options=TemplateOptions(escape_backslashes=False))
        return ["any"] if isinstance(result, (list, dict)) else ["str", "" if result is None else str(result)]
    except Exception:
        return ["error"]


def main() -> None:
    init_plugin_loader()
    record = json.loads(RECORD.read_text())
    loader = DataLoader()
    loader.set_basedir(sys.argv[1])
    rows = []
    for kind, text, _ in record["cases"]:
        engine = TemplateEngine(loader=loader, variables=trusted(record["vars"]))
        rows.append("  " + json.dumps([kind, text, answer(engine, kind, text)], ensure_ascii=False))
    differences = ",\n".join(f"  {json.dumps(text)}: {json.dumps(why)}" for text, why in record["differences"].items())
    variables = json.dumps(record["vars"], ensure_ascii=False)
    head = f'{{"ansible": "{release.__version__}",\n "vars": {variables},\n "differences": {{\n{differences}\n }},'
    RECORD.write_text(head + '\n "cases": [\n' + ",\n".join(rows) + "\n ]}\n")


if __name__ == "__main__":
    main()
