"""A finished run in Ollama: its GGUF fetched and proven, a Modelfile beside it, made by a server and looked at there."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainyard.errors import StoreError, UserError
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.runs.after import gguf
from trainyard.runs.after.modelfile import OllamaModel, template_of
from trainyard.runs.after.ollamaserver import OllamaServer, address_of, check_tag
from trainyard.runs.context import CommandContext
from trainyard.runs.records.acts import record_act
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import succeeded
from trainyard.runs.verbs.fetch import fetch
from trainyard.runs.verbs.past import SeenAttempt, seen
from trainyard.storage.manifest import ResultKey

MODELFILE, ABOUT, LICENCE = "Modelfile", "gguf.json", "LICENSE"


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaWish:
    """What a person asks for."""

    tag: str | None = None
    host: str | None = None
    folder: str | None = None
    base: str | None = None
    """The model of the server's that an adapter is put onto."""
    system: str = ""
    send: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaOutcome:
    """What came of it. ``model``: its name at the server, empty where nothing was sent."""

    run: str
    folder: str
    file: str
    sha256: str
    model: str = ""
    server: str = ""
    sent: bool = False
    """Whether the file had to be sent; False: the server had it."""


def check(context: CommandContext, wish: OllamaWish) -> None:
    """Raise UserError for a name or an address that cannot be, before anything is begun."""
    address_of(wish.host, context.env)
    if wish.tag is not None:
        check_tag(wish.tag)


def to_ollama(context: CommandContext, reference: str, stack: str | None, wish: OllamaWish) -> OllamaOutcome:
    """Bring a run to Ollama; what can be refused is refused before anything is fetched.

    Raises UserError for a run without GGUF, StoreError for what a server refuses and where it did not say "success".
    """
    key, record = _gguf_run(context, reference, stack)
    _refuse_without_base(key, record, wish)
    tag = check_tag(wish.tag or _tag_of(record))
    if not wish.send:
        return _written(context, key, stack, wish)[2]
    with OllamaServer(address_of(wish.host, context.env), context.env) as server:
        context.ui.say(f"ollama     {server.address}, version {server.version()}")
        model, about, outcome = _written(context, key, stack, wish)
        _check_base(context, server, model, about)
        record_act(context, "ollama", str(key), to=f"{server.address} {tag}")
        sent = server.put(Path(outcome.folder) / model.file, outcome.sha256)
        how = "is there, sent and held against its sha256 by the server" if sent else "was there already"
        context.ui.say(f"ollama     {model.file} {how}")
        server.create(model.request(tag, outcome.sha256))
        _verify(server, tag, model)
        return replace(outcome, model=tag, server=server.address, sent=sent)


def _written(
    context: CommandContext, key: ResultKey, stack: str | None, wish: OllamaWish
) -> tuple[OllamaModel, Mapping[str, Any], OllamaOutcome]:
    """Fetch the file, every byte proven, and write the Modelfile beside it."""
    folder = Path(wish.folder).expanduser() if wish.folder else context.places.home / "ollama" / key.user / key.run / str(key.attempt)
    fetch(context, stack, str(key), folder)
    about = _about(folder)
    model = _model(context, folder, about, wish)
    write_atomic(folder / MODELFILE, model.text(), durable=False)
    context.ui.say(f"modelfile  {folder / MODELFILE}")
    return model, about, OllamaOutcome(run=str(key), folder=str(folder), file=model.file, sha256=str(about["sha256"]))


def gguf_there(context: CommandContext, reference: str, stack: str | None) -> bool:
    """Tell whether a run has GGUF already, or is one."""
    with seen(context, reference, stack) as attempt:
        return attempt.record.recipe == gguf.RECIPE or _made_of(context, attempt) is not None


def _gguf_run(context: CommandContext, reference: str, stack: str | None) -> tuple[ResultKey, RunRecord]:
    """Return the run that has written the GGUF: the one that is named, else the newest of it that is known here."""
    with seen(context, reference, stack) as attempt:
        record, key = attempt.record, attempt.key
        newest = None if record.recipe == gguf.RECIPE else _made_of(context, attempt)
    if record.recipe == gguf.RECIPE:
        return key, record
    if newest is None:
        raise UserError(
            f"{key} has no GGUF that is known here",
            hint=f"Write it first: invoke gguf {key} --stack {record.environment}; or with this: --make",
        )
    context.ui.say(f"gguf       {newest.id}, of {key}")
    return ResultKey(newest.user, newest.label, newest.attempt), newest


def _made_of(context: CommandContext, attempt: SeenAttempt) -> RunRecord | None:
    """Return the newest run here that has written the result of an attempt as GGUF: its data are that result in the bucket."""
    bucket, runs = attempt.record.bucket, context.places.runs
    if bucket is None:
        return None
    place = f"{bucket.bucket}/{attempt.key.model}"
    records = (RunFolder(run.folder(runs)).load() for run in all_runs(runs))
    of_it = [
        one for one in records if one.recipe == gguf.RECIPE and (one.data.reference or "").partition("://")[2] == place and succeeded(one)
    ]
    return max(of_it, key=lambda one: one.ended or 0.0, default=None)


def _refuse_without_base(key: ResultKey, record: RunRecord, wish: OllamaWish) -> None:
    adapter = record.values.get("what") == gguf.ADAPTER
    if adapter and not wish.base:
        base = record.values["base_model"]
        raise UserError(
            f"{key} is an adapter of {base}: say which of the server's models it is put onto",
            hint="--base qwen3:0.6b, say: it must be the very model that the adapter was trained on; what `ollama list` shows",
        )
    if wish.base and not adapter:
        raise UserError(f"--base {wish.base}: {key} is a whole model, which is put onto none")


def _tag_of(record: RunRecord) -> str:
    """Return the name of a model where none is asked for: what was trained, who did it and when it ended."""
    name = re.sub(r"[^a-z0-9_.-]", "-", str(record.values.get("model_name") or record.label).lower())
    day = time.strftime("%Y%m%d", time.gmtime(record.ended or time.time()))
    return f"{name}:{record.user}-{day}"


def _about(folder: Path) -> dict[str, Any]:
    """Return what the recipe says of its file; raises UserError for a result of another kind."""
    try:
        about = parse_json((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict) or not (folder / str(about.get("file"))).is_file():
        raise UserError(f"{folder} holds no GGUF that recipe {gguf.RECIPE} has written: {ABOUT} and its file are not there")
    return about


def _model(context: CommandContext, folder: Path, about: Mapping[str, Any], wish: OllamaWish) -> OllamaModel:
    turns = about.get("turns")
    if turns is None:
        why = about.get("no_turns") or "how it writes a conversation is not known"
        context.ui.warn(f"no TEMPLATE is written: {why}; Ollama then goes by what it knows of the file")
    licence = (folder / LICENCE).read_text(encoding="utf-8", errors="replace") if (folder / LICENCE).is_file() else ""
    return OllamaModel(
        file=str(about["file"]), base=wish.base or "", template=template_of(turns) if turns else "", system=wish.system,
        stops=tuple(map(str, about.get("stops") or ())), licence=licence.replace('"""', "'''"),
    )  # fmt: skip


def _check_base(context: CommandContext, server: OllamaServer, model: OllamaModel, about: Mapping[str, Any]) -> None:
    """Hold an adapter's base against the server's model; raises UserError for another one. Its revision is nothing that Ollama says."""
    if not model.base:
        return
    there = server.show(model.base)
    if there is None:
        raise UserError(f"--base {model.base}: {server.address} has no such model", hint=f"Fetch it: ollama pull {model.base}")
    info = there.get("model_info") or {}
    kind = str(about["architecture"])
    shape = {"general.architecture": kind} | {f"{kind}.{name}": number for name, number in about["base_shape"].items()}
    differ = [f"{name} is {info[name]}, not {value}" for name, value in shape.items() if name in info and info[name] != value]
    if differ:
        raise UserError(f"--base {model.base} is not what the adapter was trained on: {'; '.join(differ)}")
    revision = about.get("base_revision")
    named = f"{about['base_model']}{f' at revision {revision}' if revision else ''}"
    context.ui.warn(f"the shape of {model.base} fits; that it is {named} is nothing that Ollama says")


def _verify(server: OllamaServer, tag: str, model: OllamaModel) -> None:
    """Raise StoreError where the server has not what it was told."""
    there = server.show(tag)
    if there is None:
        raise StoreError(f"{server.address} said success, and has no model {tag}")
    parameters = str(there.get("parameters") or "")
    wrong = [name for name, text in (("template", model.template), ("system", model.system)) if text and there.get(name) != text]
    wrong += [f"stop {stop}" for stop in model.stops if json.dumps(stop, ensure_ascii=False) not in parameters and stop not in parameters]
    if wrong:
        raise StoreError(f"{server.address} has made {tag}, and not as it was told: {', '.join(wrong)}")
