"""Images and captions of a run, judged on this machine before anything is rented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainyard.errors import Location, UserError
from trainyard.recipes.images import ImageFlaw, survey
from trainyard.recipes.summaries import DataFile

FORM = "image and caption"
_SHOWN = 10


class JudgedImages(NamedTuple):
    """What is said of a run's data beside their files (data.Data)."""

    form: str
    rows: int
    skipped: tuple[str, ...]
    skipped_rows: int
    unused: tuple[str, ...]


def judged(files: Sequence[DataFile], values: Mapping[str, object]) -> JudgedImages:
    """Judge images by what a run's values say of them. Raises UserError that names each flawed one, up to a number.

    Images that are there twice are named among what is unused, and trained all the same: whether they are meant is not known here.
    """
    smallest = values.get("minimum_image_size")
    seen = survey(
        {file.dest: Path(file.src) for file in files}, str(values.get("caption_strategy")), smallest if isinstance(smallest, int) else 0
    )
    if seen.flaws and (values.get("on_bad_row") != "skip" or not seen.images):
        raise _stop(seen.flaws, {file.dest: file.src for file in files}, len(seen.images))
    if not seen.images:
        raise UserError("the data hold no image (.png, .jpg, .jpeg, .webp)")
    lines = tuple(f"{_place(flaw)}: {flaw.reason}" for flaw in seen.flaws[:_SHOWN])
    return JudgedImages(FORM, len(seen.images), lines, len(seen.flaws), (*seen.unused, *_twice(files, {one.name for one in seen.images})))


def _twice(files: Sequence[DataFile], images: set[str]) -> list[str]:
    pictures = sorted((file.dest, file.sha256) for file in files if file.dest in images)
    counts = Counter(sha256 for _, sha256 in pictures)
    first = {sha256: name for name, sha256 in reversed(pictures)}
    return [f"{name} (the same image as {first[sha256]})" for name, sha256 in pictures if counts[sha256] > 1 and first[sha256] != name]


def _stop(flaws: Sequence[ImageFlaw], sources: Mapping[str, str], good: int) -> UserError:
    first = flaws[0]
    others = [f"{_place(flaw)}: {flaw.reason}" for flaw in flaws[1:_SHOWN]]
    lines = [f"{len(flaws)} are flawed, {good} are not; beside this one:", *others]
    more = [f"and {len(flaws) - _SHOWN} more"] if len(flaws) > _SHOWN else []
    hint = [*(lines if len(flaws) > 1 else []), *more, *(["To train without them: --set on_bad_row=skip."] if good else [])]
    where = Location(sources[first.name], first.line, 1, "") if first.line else None
    return UserError(f"{first.name}: {first.reason}" if where is None else first.reason, where=where, hint="\n".join(hint) or None)


def _place(flaw: ImageFlaw) -> str:
    return f"{flaw.name}:{flaw.line}" if flaw.line else flaw.name
