"""A user's program (a process of its own): the page's examples, the notebook's cells, the DAG's tasks. It must print nothing.

Called with the repository and a file for what it has seen. What examples print is collected; anything else on its
streams is Trainyard's. Its thread is not the main one, or a loop runs in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

import trainyard

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROOT, SEEN = Path(sys.argv[1]), Path(sys.argv[2])
printed: list[str] = []


def execute(pieces: list[str]) -> dict[str, Any]:
    """Execute pieces of a program one after another, as one."""
    names: dict[str, Any] = {"print": lambda *values: printed.append(" ".join(map(str, values)))}
    for piece in pieces:
        exec(compile(piece, "example", "exec"), names)
    return names


def page() -> list[str]:
    """Return the page's examples."""
    return re.findall(r"^```python\n(.*?)^```", (DOCS / "python.md").read_text(encoding="utf-8"), re.M | re.S)


def notebook() -> list[str]:
    """Return the notebook's cells of code."""
    cells = json.loads((DOCS / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def in_thread(call: Any) -> Any:
    """Return what a call gives in a thread of its own."""
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(call()))
    thread.start()
    thread.join()
    return values[0]


async def in_loop(call: Any) -> Any:
    """Return what a call gives inside a running loop."""
    return call()


def dag(label: str) -> dict[str, Any]:
    """Run the tasks of the Airflow example as a retry does whose run was begun before, with what stands in for Airflow's words."""

    class Dag:
        def __init__(self, **kwargs: object) -> None:
            self.kwargs = kwargs

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    sdk = types.ModuleType("airflow.sdk")
    sdk.DAG, sdk.task = Dag, lambda call: lambda *args: args  # type: ignore[attr-defined]
    sys.modules |= {"airflow": types.ModuleType("airflow"), "airflow.sdk": sdk}
    tasks = runpy.run_path(str(DOCS / "examples" / "airflow_dag.py"), {"print": print_nothing})
    run = tasks["begin"](label)
    result = tasks["wait"](run)
    return {"result": result, "files": tasks["fetch"](result, str(ROOT / "out" / "dag"))}


def print_nothing(*_: object) -> None:
    """Take what an example prints."""


def process() -> list[Any]:
    """Return what no call may change."""
    handlers = [str(signal.getsignal(number)) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)]
    return [dict(os.environ), os.getcwd(), handlers, signal.pthread_sigmask(signal.SIG_BLOCK, [])]


os.chdir(ROOT)
before = process()
first = in_thread(lambda: execute(page()))
second = asyncio.run(in_loop(lambda: execute(notebook())))
assert process() == before
os.chdir("/")
os.environ["MODELS_REPOSITORY"] = str(ROOT)
third = dag("first")
SEEN.write_text(
    json.dumps(
        {
            "printed": printed,
            "first": [first["summary"].success, first["got"].manifest_sha256, [str(path) for path in first["got"].paths]],
            "again": [first["again"].success, first["again"].run, first["entry"].run, first["entry"].state],
            "second": [second["summary"].success, second["summary"].run, len(second["losses"])],
            "dag": third,
            "runs": [[run.run, run.state] for run in trainyard.runs(root=ROOT)],
        },
        default=str,
    )
)
