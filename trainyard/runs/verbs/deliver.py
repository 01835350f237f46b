"""Bring a result to where a person wants it after a run: a folder of this machine, or the Hugging Face Hub.

`invoke deliver` does it at once; a run with ``--deliver`` starts the same command in a process of its own when its pod is gone
(life/delivering.py). What becomes of it changes nothing of the run.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from trainyard.errors import StoreError, TrainyardError, UserError
from trainyard.jsontext import parse_json
from trainyard.runs.context import CommandContext
from trainyard.runs.life.roads import is_owed
from trainyard.runs.planning.deliverymeans import hub_token, need_means
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.delivery import FORMS, DeliveryTarget, delivering, now_state, target_of, write_state
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.runs.records.summary import place_of, write_summary
from trainyard.runs.verbs.fetch import bucket_of, damage_told, meant, progress_of
from trainyard.runs.verbs.results import chosen_result
from trainyard.storage.client import StoreSettings
from trainyard.storage.download import download
from trainyard.storage.hub import ENDPOINT, HubFile, push
from trainyard.storage.manifest import MANIFEST, MODEL_FOLDER, Manifest, ManifestEntry, ResultKey, decode, sha256
from trainyard.storage.seal import read, read_result

_TOLD = ("base_model", "num_train_epochs", "max_steps", "learning_rate", "lora_rank", "max_seq_length", "per_device_train_batch_size")
"""Variables of a recipe that a model card tells."""


def deliver(context: CommandContext, reference: str, to: str | None, stack: str | None) -> int:
    """Deliver a result to ``to``, else where its run was told to; return 0. Safe to call again: it goes on where it was.

    Raises UserError, StoreError or DiskFull; what is known of the run here tells it, too.
    """
    reference = meant(context, reference, stack)
    known = _known(context, reference) if stack is None else None
    said = to or (known[1].deliver if known else None)
    if said is None:
        raise UserError(f"where shall {reference} go?", hint=f"Say --to: {FORMS}.")
    target = target_of(said, Path.cwd())
    need_means(context.env, target)
    if known is None:
        stack = stack or "local"
        store = bucket_of(context, stack)
        key = chosen_result(context, store, stack, reference).key
        record_act(context, "deliver", str(key), to=said)
        _say_done(context, _carry(context, stack, store, key, None, target))
        return 0
    folder, record = known
    with delivering(folder), _noted(context, folder, record, target) as done:
        key = ResultKey(record.user, record.label, record.attempt)
        record_act(context, "deliver", str(key), to=said)
        done.append(_carry(context, record.environment, store_of(context, record.bucket), key, record, target))
    _say_done(context, done[0])
    return 0


def _known(context: CommandContext, reference: str) -> tuple[RunFolder, RunRecord] | None:
    try:
        folder = context.folder(reference)
        return folder, folder.load()
    except UserError:
        return None


def _say_done(context: CommandContext, where: str) -> None:
    context.ui.say(f"delivered to {where}")


@contextmanager
def _noted(context: CommandContext, folder: RunFolder, record: RunRecord, target: DeliveryTarget) -> Iterator[list[str]]:
    """Note in the run's folder what becomes of a delivery."""
    from trainyard.runs.records.home import bring_home

    done: list[str] = []
    write_state(folder, now_state(target, "begun"))
    try:
        yield done
    except TrainyardError as error:
        write_state(folder, now_state(target, "failed", error=error.message))
        raise
    else:
        write_state(folder, now_state(target, "done", where=done[0]))
    finally:
        with contextlib.suppress(OSError, TrainyardError):  # the summary tells it, too, where it can be written
            write_summary(record, folder)
            bring_home(context, record, folder)


def _carry(
    context: CommandContext, stack: str, store: StoreSettings | None, key: ResultKey, record: RunRecord | None, target: DeliveryTarget
) -> str:
    """Deliver and return where it is now."""
    home = _at_home(record)
    if home is None and store is None:
        raise UserError(f"the result of {key} is in no bucket and not at home: there is nothing to deliver")
    if target.kind == "local":
        if home is not None:
            return f"{home} (it came home over SSH)"
        assert store is not None
        dest = Path(target.place or place_of(key.run, key.attempt))
        with damage_told(store, stack):
            got = download(store, str(key), dest if dest.is_absolute() else context.places.root / dest, on_progress=progress_of(context))
        context.ui.say(f"{got.files} files, {got.bytes:,} bytes ({got.reused} were here already), sha256 of each proved")
        return str(got.dest)
    if home is not None:
        manifest = decode((home / MANIFEST).read_bytes(), str(home / MANIFEST))
        return _to_hub(context, store, manifest, {name: home / entry.path for name, entry in _model_of(manifest).items()}, record, target)
    assert store is not None
    result = read_result(store, key)
    if result is None or result.ending is not None:
        why = f"it is no success ({result.ending.why})" if result and result.ending else "it was never committed"
        raise UserError(f"{key} does not go to the Hub: {why}", hint=f"To this machine: invoke deliver {key} --to local")
    stage = context.places.home / "delivery" / str(key)
    with damage_told(store, stack):
        download(store, str(key), stage, on_progress=progress_of(context))
    where = _to_hub(context, store, result.manifest, {name: stage / name for name in _model_of(result.manifest)}, record, target)
    shutil.rmtree(stage, ignore_errors=True)
    return where


def _at_home(record: RunRecord | None) -> Path | None:
    """Return where a result lies that came home over SSH and is in no bucket."""
    if record is None or record.result is None or record.result.local_path is None:
        return None
    if is_owed(record) or record.result.s3_url is None:
        return Path(record.result.local_path)
    return None


def _model_of(manifest: Manifest) -> Mapping[str, ManifestEntry]:
    """Return the files of the model by the names that a download gives them; of a result without a model folder all."""
    below = {entry.path[len(MODEL_FOLDER) :]: entry for entry in manifest.files if entry.path.startswith(MODEL_FOLDER)}
    return below or {entry.path: entry for entry in manifest.files}


def _to_hub(
    context: CommandContext, store: StoreSettings | None, manifest: Manifest, paths: Mapping[str, Path], record: RunRecord | None,
    target: DeliveryTarget,
) -> str:  # fmt: skip
    if record is not None and not record.training_success:
        raise UserError(f"{manifest.key} does not go to the Hub: it is no success")
    if not paths:
        raise UserError(f"the training of {manifest.key} left no output")
    files = {name: HubFile(path, _model_of(manifest)[name]) for name, path in paths.items()}
    context.ui.say(f"hub        {len(files)} files, {sum(one.entry.size for one in files.values()):,} bytes to {target.place}")
    values = _values(store, manifest.key, record)
    done = push(
        files, target.place, hub_token(context.env), message=f"{manifest.key} (manifest {sha256(manifest.encode())[:12]})",
        card=_card(manifest, values), endpoint=context.env.get("HF_ENDPOINT") or ENDPOINT,
    )  # fmt: skip
    context.ui.say(f"hub        {done.sent} sent, {done.files} proved by their hashes, revision {done.revision[:12]}")
    if done.public:
        context.ui.warn(f"{done.url} was there already and is public")
    return f"{done.url} (revision {done.revision[:12]})"


def _values(store: StoreSettings | None, key: ResultKey, record: RunRecord | None) -> Mapping[str, object]:
    """Return the recipe's variables of a run, as its record or the bucket knows them."""
    if record is not None:
        return record.values
    with contextlib.suppress(StoreError, ValueError):
        content = parse_json(read(store, key.logs + "config.json") or b"{}") if store else {}
        return content if isinstance(content, dict) else {}
    return {}


def _card(manifest: Manifest, values: Mapping[str, object]) -> str:
    """Return a model card that tells what is known, and nothing of a person's data."""
    base = values.get("base_model")
    head = ["tags:", "- trainyard"]
    if isinstance(base, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", base) and not Path(base).exists():
        head = [f"base_model: {base}", *head]
    rows = [f"| {name} | `{json.dumps(values[name])}` |" for name in _TOLD if values.get(name) is not None]
    about = [f"| run | `{manifest.key}` |", f"| manifest, sha256 | `{sha256(manifest.encode())}` |", f"| files | {len(manifest.files)} |"]
    body = [f"# {manifest.key.run}", "", "Trained with Trainyard.", "", "| | |", "|---|---|", *about, *rows]
    return "\n".join(["---", *head, "---", "", *body, ""])
