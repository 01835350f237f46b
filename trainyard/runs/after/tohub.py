"""A result on its way to the Hugging Face Hub: which of its files go, with which card; sent and proven there by storage/hub.py."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pathspec import GitIgnoreSpec

from trainyard.errors import Busy, UserError
from trainyard.filelock import acquire_now, closing
from trainyard.pod.files import hash_file
from trainyard.recipes import secretfiles
from trainyard.runs.after.card import PICTURE, BaseLicence, card_of
from trainyard.runs.after.cardfacts import facts_of, report_of
from trainyard.runs.context import CommandContext
from trainyard.runs.planning.deliverymeans import hub_token
from trainyard.runs.records.curves import Drawn, Panel, picture
from trainyard.runs.records.progress import Curve
from trainyard.runs.verbs.fetch import damage_told, progress_of
from trainyard.runs.verbs.past import SeenAttempt
from trainyard.storage.client import StoreSettings
from trainyard.storage.download import download
from trainyard.storage.hub import CARD, ENDPOINT, HubFile, HubPlace, HubPush, push
from trainyard.storage.manifest import MANIFEST, MODEL_FOLDER, Manifest, ManifestEntry, ResultKey, decode, entry_of, sha256
from trainyard.storage.seal import read_result

_STAYS = (
    "checkpoint-*/", "checkpoints/", "optimizer.*", "scheduler.pt", "scheduler.bin", "rng_state*", "scaler.pt", "training_args.bin",
    "trainer_state.json", "metrics.jsonl", "events.out.tfevents*", "wandb/", "mlruns/", "*.log",
)  # fmt: skip
"""What belongs to a training and not to its model, in the syntax of a .gitignore."""
_LOOKED_INTO = 4 << 20
"""Bytes up to which a file is looked into for keys: settings, pages and programs; larger ones are weights and vocabularies."""
_PART = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class HubWish:
    """What a person wants of a repository."""

    repo: str
    public: bool | None = None
    branch: str = "main"
    licence: BaseLicence | None = None
    cost: bool = False
    alone: bool = False
    """The repository holds this result and nothing else afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedResult:
    """The model of a result as files of this machine, with its manifest; where the whole of it lies, for who wants more."""

    manifest: Manifest
    paths: Mapping[str, Path]
    store: StoreSettings | None
    home: Path | None


def place_on(context: CommandContext, wish: HubWish) -> HubPlace:
    """Return the repository, with the token of this machine's settings; raises UserError without one."""
    endpoint = context.env.get("HF_ENDPOINT") or ENDPOINT
    return HubPlace(repo=wish.repo, token=hub_token(context.env), endpoint=endpoint, public=wish.public, branch=wish.branch)


@contextmanager
def staged(context: CommandContext, stack: str, store: StoreSettings | None, key: ResultKey, home: Path | None) -> Iterator[StagedResult]:
    """Yield the model of a result, fetched and proven; what was fetched stays until all has gone well. Raises UserError for no success."""
    if home is not None:
        manifest = decode((home / MANIFEST).read_bytes(), str(home / MANIFEST))
        paths = {name: home / entry.path for name, entry in _model_of(manifest).items()}
        yield StagedResult(manifest=manifest, paths=paths, store=store, home=home)
        return
    assert store is not None
    result = read_result(store, key)
    if result is None or result.ending is not None:
        why = f"it is no success ({result.ending.why})" if result and result.ending else "it was never committed"
        raise UserError(f"{key} does not go to the Hub: {why}", hint=f"To this machine: invoke deliver {key} --to local")
    stage = context.places.home / "delivery" / str(key)
    stage.parent.mkdir(parents=True, exist_ok=True)
    handle = acquire_now(stage.with_name(f"{stage.name}.lock"))
    if handle is None:
        raise Busy(f"another process brings {key} to the Hub")
    with closing(handle):
        with damage_told(store, stack):
            download(store, str(key), stage, on_progress=progress_of(context))
        paths = {name: stage / name for name in _model_of(result.manifest)}
        yield StagedResult(manifest=result.manifest, paths=paths, store=store, home=None)
        shutil.rmtree(stage, ignore_errors=True)


def card_text(context: CommandContext, result: StagedResult, attempt: SeenAttempt | None, wish: HubWish) -> tuple[str, Curve, Curve]:
    """Return the card of a result, and the curves of its picture."""
    report = report_of(result.manifest, result.store, result.home)
    facts = facts_of(context, wish.repo, result.manifest, result.paths, attempt, report)
    facts = replace(facts, branch=wish.branch, licence=wish.licence, cost=facts.cost if wish.cost else None)
    return card_of(replace(facts, has_picture=_has_picture(result, facts.losses))), facts.losses, facts.evals


def going(context: CommandContext, result: StagedResult) -> dict[str, HubFile]:
    """Return the files that go to the Hub, by their names there; what stays is told.

    Raises UserError for a result without a model, and for a file that holds a key.
    """
    stays, entries = GitIgnoreSpec.from_lines(_STAYS), _model_of(result.manifest)
    left = sorted(name for name in result.paths if stays.match_file(name) or secretfiles.is_secret_name(name))
    files = {name: HubFile(path, entries[name]) for name, path in result.paths.items() if name not in left}
    if not files:
        raise UserError(f"the training of {result.manifest.key} left no output that is a model")
    for name, file in sorted(files.items()):
        if file.entry.size <= _LOOKED_INTO:
            _refuse_secret(name, file.path)
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        context.ui.say(f"hub        stays here: {', '.join(left[:5])}{more}")
    return files


def send(context: CommandContext, result: StagedResult, attempt: SeenAttempt | None, wish: HubWish) -> HubPush:
    """Push a result and its card, proven there, and tell it. Raises UserError, StoreError or RefusedError."""
    files = going(context, result)
    own = _has_front_matter(files.get(CARD))
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        card = None
        if not own:
            text, losses, evals = card_text(context, result, attempt, wish)
            card, files = _file(Path(scratch) / CARD, text), {name: file for name, file in files.items() if name != CARD}
            if _has_picture(result, losses) and _draw(Path(scratch) / PICTURE, losses, evals):
                files[PICTURE] = _hashed(Path(scratch) / PICTURE)
        context.ui.say(f"hub        {len(files)} files, {sum(one.entry.size for one in files.values()):,} bytes to {wish.repo}")
        place, key = place_on(context, wish), result.manifest.key
        done = push(files, place, message=f"{key} (manifest {sha256(result.manifest.encode())[:12]})", card=card, alone=wish.alone)
    context.ui.say(f"hub        {done.sent} sent, {done.files} proved by their hashes, revision {done.revision[:12]}")
    _tell(context, done, own=own, asked=wish.public)
    return done


def _tell(context: CommandContext, done: HubPush, *, own: bool, asked: bool | None) -> None:
    if own:
        context.ui.say("hub        its card is the README.md that the training has left")
    if done.public and asked is None:
        context.ui.warn(f"{done.url} was there already and is public")
    if done.card_kept:
        context.ui.warn(f"README.md of {done.url} was written or edited by a person and stays as it is (invoke push --replace writes ours)")
    if done.others:
        more = f" and {len(done.others) - 5} more" if len(done.others) > 5 else ""
        context.ui.warn(f"{done.url} also holds, from before: {', '.join(done.others[:5])}{more} (invoke push --replace takes them away)")


def _model_of(manifest: Manifest) -> Mapping[str, ManifestEntry]:
    """Return the files of the model by the names that a download gives them; of a result without a model folder all."""
    below = {entry.path[len(MODEL_FOLDER) :]: entry for entry in manifest.files if entry.path.startswith(MODEL_FOLDER)}
    return below or {entry.path: entry for entry in manifest.files}


def _refuse_secret(name: str, path: Path) -> None:
    places, _ = secretfiles.secrets_among(path, _LOOKED_INTO)
    if places:
        raise UserError(f"{name}:{places[0].line}: holds what looks like {places[0].kind}; nothing was sent", hint="Train without it.")


def _has_front_matter(file: HubFile | None) -> bool:
    """Tell whether a training's README.md is a card that a person (or a library) has made for the Hub."""
    if file is None:
        return False
    with file.path.open("rb") as page:
        return page.read(4).startswith(b"---")


def _has_picture(result: StagedResult, losses: Curve) -> bool:
    from importlib.util import find_spec

    return len(losses) > 1 and PICTURE not in result.paths and find_spec("matplotlib") is not None


def _draw(to: Path, losses: Curve, evals: Curve) -> bool:
    curves = [Drawn("*", "loss", losses), *([Drawn("o", "loss of rows held back", evals)] if evals else [])]
    picture([Panel("loss", curves)], to)
    return True


def _file(path: Path, text: str) -> HubFile:
    path.write_text(text, encoding="utf-8")
    return _hashed(path)


def _hashed(path: Path) -> HubFile:
    return HubFile(path, entry_of(hash_file(str(path), _PART, False)[0], path.name))
