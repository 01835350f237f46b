"""A rehearsal that is at work, and the way into it for another command: what it keeps beside its world while it lasts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path

from trainyard import config
from trainyard.config import Places
from trainyard.filelock import acquire_now, release
from trainyard.files import write_atomic
from trainyard.jsontext import parse_json
from trainyard.settings.clouds import entries

WORLDS = "rehearsal"
"""Folder of ``.trainyard`` in which each stack's rehearsal has one of its own."""
_FILE, _LOCK = "world.json", "world.lock"
_ELSEWHERE = ("AWS_", "R2_", "TRAINYARD_LEDGER")
"""Beginnings of variables that lead to stores and to a ledger: a rehearsal's results and costs stay here."""


def inside(env: Mapping[str, str], variables: Mapping[str, str], hidden: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of a rehearsal: its own variables, and of a person's no cloud's keys, no store's, no ledger elsewhere."""
    accounts = {name for row in entries().values() for name in (*row.keys, *row.key_aliases, *row.more)}
    return {key: value for key, value in env.items() if key not in accounts and not key.startswith((*_ELSEWHERE, *hidden))} | dict(
        variables
    )


@contextmanager
def kept(base: Path, variables: Mapping[str, str], hidden: tuple[str, ...]) -> Iterator[None]:
    """Let other commands find the rehearsal in this folder while the block lasts; a lock says that it does."""
    base.mkdir(parents=True, exist_ok=True)
    lock = acquire_now(base / _LOCK)
    if lock is None:  # another rehearsal of this stack is at work, and is the one that is found
        yield
        return
    try:
        write_atomic(base / _FILE, json.dumps({"variables": dict(variables), "hidden": hidden}), durable=False, mode=0o600)
        yield
    finally:
        (base / _FILE).unlink(missing_ok=True)
        release(lock)


@contextmanager
def entered(places: Places, environ: MutableMapping[str, str], fits: Callable[[Places], bool]) -> Iterator[Path | None]:
    """Work in the environment of the living rehearsal whose places fit while the block lasts; yield its folder, or None."""
    for base in sorted((places.home / WORLDS).glob("*/")):
        there = _environment(base, environ)
        if there is not None and fits(config.places(Path(there["TRAINYARD_PROJECT_DIR"]), there)):
            before = dict(environ)
            _become(environ, there)
            try:
                yield base
            finally:
                _become(environ, before)
            return
    yield None


def _environment(base: Path, env: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment of a rehearsal that is at work, None of one that is over."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        lock = acquire_now(base / _LOCK, create=False)
        if lock is not None:
            release(lock)
            return None
        said = parse_json((base / _FILE).read_bytes())
        return inside(env, {str(name): str(value) for name, value in said["variables"].items()}, tuple(map(str, said["hidden"])))
    return None


def _become(environ: MutableMapping[str, str], other: Mapping[str, str]) -> None:
    for name in set(environ) - set(other):
        del environ[name]
    environ.update(other)
