"""A data set of a person's own sources, built on this machine: the bundle of recipe dataset, run in a folder that is removed again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from trainyard.errors import TrainyardError, UserError
from trainyard.filelock import hold_lock
from trainyard.files import sync
from trainyard.jsontext import parse_json
from trainyard.pod.files import printable
from trainyard.recipes import bundle, data, venvs
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import Data
from trainyard.recipes.summaries import DataFile, Values
from trainyard.recipes.values import resolve, sets_with
from trainyard.runs.context import CommandContext
from trainyard.textfile import expanded

RECIPE = "dataset"
_HELD = "eval.jsonl"
_LEFT = {_HELD: ".eval.jsonl", "dropped.jsonl": ".dropped.jsonl", "report.json": ".report.json", "report.html": ".report.html"}
"""What a build leaves beside the rows, and how it ends beside the file that was asked for."""
_FAR = ("s3://", "gs://", "https://", data.OF_RUN)
"""Begins what only a pod fetches."""
_WRONG, _STOPPED = (2, 66), (75, 143)
_TAIL = 40


@dataclass(frozen=True, slots=True)
class BuiltData:
    """Where everything lies."""

    rows: Path
    report: Path
    page: Path


def build_data(context: CommandContext, sources: Sequence[str], to: str, config: Path | None, sets: Sequence[str]) -> BuiltData:
    """Build the data set of some sources; its files appear together, or none does.

    Raises UserError for settings and sources that are wrong, with file:line, and TrainyardError where the build fails.
    """
    target = expanded(to).absolute()
    recipe = load_recipe(context.places.root, RECIPE)
    _refuse(to, target, sources)
    values = _absolute(resolve(recipe, config, sets_with(recipe, sets, None), {}, on_note=context.ui.say))
    dataset = _joined([data.inspect(source, recipe, values=values) for source in sources])
    for remark in dataset.remarks():
        context.ui.warn(remark)
    venvs.prepare(recipe, values, None, context.places, context.ui.say)
    with _workplace(target, context.ui.say) as (place, lock):
        bundle.build(recipe, values, dataset, place / "run")
        _link(dataset, place / "input")
        _run(context, place, lock)
        return _take(place / "output", target)


def _absolute(values: Values) -> Values:
    """Return the values with the folder of the base as the program finds it, which runs in another place."""
    base = expanded(str(values["base_model"] or ""))
    return {**values, "base_model": str(base.absolute())} if values["base_model"] and base.is_dir() else values


def _refuse(to: str, target: Path, sources: Sequence[str]) -> None:
    if target.suffix.lower() != ".jsonl":
        raise UserError(f"--to {to}: the rows are written as JSON Lines: name a file that ends in .jsonl")
    if target.is_dir() or not target.parent.is_dir():
        raise UserError(f"--to {to}: is a folder" if target.is_dir() else f"--to {to}: there is no folder {target.parent}")
    for source in sources:
        if source.startswith(_FAR):
            hint = f"Fetch it first, or build it on a pod: invoke train --recipe {RECIPE} --data {source}"
            raise UserError(f"{source}: is not fetched here", hint=hint)
        path = expanded(source).resolve()
        if path == target.resolve() or (path.is_dir() and path in target.resolve().parents):
            hint = "Name a file outside of it: the next build would read what this one writes."
            raise UserError(f"--to {to}: lies in {source}, which is read", hint=hint)


@contextmanager
def _workplace(target: Path, say: Callable[[str], object]) -> Iterator[tuple[Path, int]]:
    """Yield the folder of a build and the lock that says it goes on; what a killed one has left is removed first."""
    place = target.with_name(f".{target.name}.building")
    lock = place.with_name(f"{place.name}.lock")
    with hold_lock(lock, lambda: say(f"another build of {target} goes on; waiting for its end")) as handle:
        try:
            if place.exists():
                shutil.rmtree(place)
            place.mkdir(mode=0o700)
            yield place, handle
        finally:
            shutil.rmtree(place, ignore_errors=True)
            lock.unlink()


def _joined(parts: Sequence[Data]) -> Data:
    """Return several sources as one; raises UserError for what cannot stand beside others."""
    if len(parts) == 1:
        return parts[0]
    if hub := next((each.reference for each in parts if each.kind == "hf"), None):
        raise UserError(f"{hub}: a data set of the Hub is built alone", hint="Fetch it first, or build it alone and name its rows here.")
    names: set[str] = set()
    files: list[DataFile] = []
    for number, each in enumerate(parts, 1):
        alike = any(file.dest in names for file in each.files)
        files += [replace(file, dest=f"{number}/{file.dest}") if alike else file for file in each.files]
        names.update(file.dest for file in each.files)
    return Data(
        reference=None, kind="folder", form=None, rows=0, bytes=sum(each.bytes for each in parts), files=tuple(files),
        left_out=tuple(name for each in parts for name in each.left_out), outside=tuple(name for each in parts for name in each.outside),
    )  # fmt: skip


def _link(dataset: Data, folder: Path) -> None:
    """Put links to local sources where the bundle reads them: no copy is made."""
    folder.mkdir()
    for item in dataset.files if dataset.kind in ("file", "folder") else ():
        path = folder / item.dest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(item.src)


def _run(context: CommandContext, place: Path, lock: int) -> None:
    """Run the bundle; its lines go to the person. Raises what its end means."""
    surroundings = {
        **context.env, "WORKSPACE": str(place), "INPUT_DIR": str(place / "input"), "OUTPUT_DIR": str(place / "output"),
        "HF_HOME": context.env.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface"),
        "TRAINYARD_ENVS": str(venvs.envs(context.places)),
    }  # fmt: skip
    with (place / "errors").open("w+b") as errors:
        # It holds the lock too: were this process killed, the next build would begin only when it has ended.
        command = ["sh", str(place / "run" / "run.sh")]
        process = subprocess.Popen(
            command, env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, pass_fds=(lock,)
        )
        try:
            for line in _lines(process):
                context.ui.say(line)
        finally:
            # A person's Ctrl-C has reached it, too; what it works in is removed only when it has ended.
            process.wait()
        errors.seek(0)
        tail = [printable(line) for line in errors.read().decode(errors="replace").splitlines()[-_TAIL:]]
    if process.returncode == 0:
        return
    if process.returncode in _STOPPED:
        raise TrainyardError("the build was stopped; nothing was written")
    if process.returncode in _WRONG:
        raise UserError(_said(place / "output" / "status.json") or "\n".join(tail), hint="Nothing was written.")
    raise TrainyardError("the data set could not be built; nothing was written", hint="\n".join(tail))


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield printable(line.decode(errors="replace").rstrip("\n"))


def _said(status: Path) -> str | None:
    try:
        words = parse_json(status.read_bytes())
        return str(words["message"]) if words["state"] == "failed" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _take(output: Path, target: Path) -> BuiltData:
    """Move what was built to its place, the rows last: with them it is whole."""
    stem = target.with_suffix("")
    places = {output / name: stem.with_name(stem.name + end) for name, end in _LEFT.items()} | {output / "rows.jsonl": target}
    for source in places:
        sync(source)
    target.unlink(missing_ok=True)
    for source, place in places.items():
        if source.name == _HELD and not source.stat().st_size:
            place.unlink(missing_ok=True)  # of an earlier build; a file without a row is none that a training reads
        else:
            source.replace(place)
    return BuiltData(target, places[output / "report.json"], places[output / "report.html"])
