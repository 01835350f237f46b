"""What is brought to safety while the speedrun runs: checkpoints to go on from, and the result, step by step. Standard library only."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

from steps import KEPT, STEPS, Book, names_in, place, place_tree, read_json, write_json

OUTPUT_DIR = os.environ["OUTPUT_DIR"]
CHECKPOINTS, MODEL = os.path.join(OUTPUT_DIR, "checkpoints"), os.path.join(OUTPUT_DIR, "model")
METRICS = os.path.join(OUTPUT_DIR, "metrics.jsonl")
MARK = "complete.json"
_BROUGHT = ("identity_conversations.jsonl", "words_alpha.txt")
_OF_A_STEP = re.compile(r"(?:model|meta|optim)_(\d+)(?:_rank\d+)?\.(?:pt|json)")


def checkpoint(book: Book, step: str) -> None:
    """Make a checkpoint of all that is done, the base model with its optimizer as long as the chat model is not made of it."""
    order = next(number for number, one in enumerate(STEPS, 1) if one.name == step)
    # Of the base its step is told, also at its end: by numbers and names alike the later one comes last.
    name = f"{order:02d}-{step}" + (f"-{book.saved('base_checkpoints')[-1]:06d}" if step == "base" else "")
    partial, folder = os.path.join(CHECKPOINTS, f".{name}"), os.path.join(CHECKPOINTS, name)
    if os.path.exists(os.path.join(folder, MARK)):
        return
    shutil.rmtree(partial, ignore_errors=True)
    _take(book, os.path.join(partial, "nanochat"), optimizer=book.done("sft") is None)
    place_tree(book.state, os.path.join(partial, "state"))
    if os.path.exists(METRICS):
        place(METRICS, os.path.join(partial, "metrics.jsonl"))
    sizes = {os.path.relpath(path, partial): os.path.getsize(path) for path in _files(partial)}
    write_json(os.path.join(partial, MARK), sizes)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(partial, folder)
    for old in names_in(CHECKPOINTS)[: -book.plan["save_total_limit"]]:
        shutil.rmtree(os.path.join(CHECKPOINTS, old), ignore_errors=True)
    _drop_older(book)


def publish(book: Book) -> None:
    """Put what is final into the result: below model/ it lies as nanochat's own base folder has it."""
    _take(book, MODEL, optimizer=False, base=book.done("base") is not None)
    write_json(os.path.join(MODEL, "phases.json"), book.known())


def restore(book: Book, folder: str) -> None:
    """Put a checkpoint back to where the speedrun goes on from it."""
    place_tree(os.path.join(folder, "nanochat"), book.base)
    place_tree(os.path.join(folder, "state"), book.state)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(book.state, "failed.json"))
    if not os.path.exists(METRICS) and os.path.exists(os.path.join(folder, "metrics.jsonl")):
        place(os.path.join(folder, "metrics.jsonl"), METRICS)


def take_data(book: Book, folder: str) -> list[str]:
    """Put what a person has brought along where nanochat looks for it: an earlier result, shards, conversations; return it in words."""
    taken = []
    for place_, folders, names in os.walk(folder):
        if "phases.json" in names:
            folders[:] = []
            place_tree(place_, book.base)
            for name, known in (read_json(os.path.join(place_, "phases.json")) or {}).items():
                book.note(name, known)
            taken.append("an earlier result")
            continue
        for name in names:
            source = os.path.join(place_, name)
            if name.endswith(".parquet"):
                place(source, os.path.join(book.base, "base_data_climbmix", name))
            elif name in _BROUGHT:
                place(source, os.path.join(book.base, name))
            else:
                continue
            if name == "identity_conversations.jsonl":
                book.note("identity", {"seconds": 0})
            taken.append(name)
        if "eval_bundle" in folders:
            folders.remove("eval_bundle")
            place_tree(os.path.join(place_, "eval_bundle"), os.path.join(book.base, "eval_bundle"))
            taken.append("eval_bundle")
    return taken


def drop_unproven(book: Book) -> None:
    """Remove what a pretraining that was killed has saved and no checkpoint holds: it can be torn."""
    folder = os.path.join(book.base, "base_checkpoints", book.plan["tag"])
    proven = [name for name in names_in(CHECKPOINTS) if os.path.exists(os.path.join(CHECKPOINTS, name, MARK))]
    for name in names_in(folder) if book.done("base") is None else []:
        found = _OF_A_STEP.fullmatch(name)
        if found and not any(one.endswith(f"-base-{found[1]}") for one in proven):
            os.unlink(os.path.join(folder, name))


def _take(book: Book, target: str, *, optimizer: bool, base: bool = True) -> None:
    last = {kind: saved[-1] for kind in ("base_checkpoints", "chatsft_checkpoints") if (saved := book.saved(kind))}
    for kept in KEPT:
        source = os.path.join(book.base, kept)
        for path in [source] if os.path.isfile(source) else _files(source):
            name, of_base = _OF_A_STEP.fullmatch(os.path.basename(path)), kept == "base_checkpoints"
            older = name is not None and int(name[1]) != last.get(kept)
            aside = name is not None and name[0].startswith("optim") and not (optimizer and of_base)
            if not older and not aside and (base or not of_base):
                place(path, os.path.join(target, os.path.relpath(path, book.base)))


def _drop_older(book: Book) -> None:
    """Remove what the base's training saved before its newest whole save: the checkpoints have names of their own."""
    folder, saved = os.path.join(book.base, "base_checkpoints", book.plan["tag"]), book.saved("base_checkpoints")
    for name in names_in(folder):
        found = _OF_A_STEP.fullmatch(name)
        if found and saved and int(found[1]) < saved[-1]:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(folder, name))


def _files(folder: str) -> list[str]:
    return [os.path.join(place_, name) for place_, _, names in os.walk(folder) for name in names]
