"""The images of a run as SimpleTuner reads them: one folder, a caption in a text file beside each image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from images import CAPTION_KEYS, Image, survey


class NoImages(Exception):
    """The data cannot be trained: said in one line. Exit code 2."""


def gather(source: Path, target: Path, values: dict[str, Any]) -> list[Image]:
    """Lay out what can be trained below ``target``; return it. Raises NoImages where there is nothing, or something is flawed."""
    shutil.rmtree(target, ignore_errors=True)
    unpacked = target.with_name(target.name + "-unpacked")
    files = _files(source)
    for name in [name for name in files if name.endswith(".parquet")]:
        _unpack(files.pop(name), unpacked / name)
    files |= {name: path for name, path in _files(unpacked).items()}
    found = survey(files, values["caption_strategy"], values["minimum_image_size"])
    for flaw in found.flaws:
        print(f"data: {flaw.name}{f':{flaw.line}' if flaw.line else ''}: {flaw.reason}", flush=True)
    if not found.images:
        raise NoImages("the data hold no image that could be trained")
    if found.flaws and values["on_bad_row"] != "skip":
        raise NoImages(f"{len(found.flaws)} images or captions are flawed (on_bad_row: skip leaves them out)")
    taken: set[Path] = set()
    for image in found.images:
        path = target / image.name
        if path.with_suffix(".txt") in taken:  # a.png beside a.jpg: each has a caption of its own
            path = path.with_name(f"{path.stem}-{path.suffix[1:]}{path.suffix}")
        taken.add(path.with_suffix(".txt"))
        path.parent.mkdir(parents=True, exist_ok=True)
        _link(files[image.name], path)
        if image.caption is not None:
            path.with_suffix(".txt").write_text(image.caption + "\n", encoding="utf-8")
    return list(found.images)


def _files(top: Path) -> dict[str, Path]:
    return {path.relative_to(top).as_posix(): path for path in sorted(top.rglob("*")) if path.is_file() and not _hidden(path, top)}


def _hidden(path: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(top).parts)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _unpack(path: Path, folder: Path) -> None:
    """Write the images of a Parquet file of the Hub, each with its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (data, caption) in enumerate(_rows(path)):
        suffix = ".jpg" if data.startswith(b"\xff\xd8") else ".webp" if data.startswith(b"RIFF") else ".png"
        (folder / f"{number:06d}{suffix}").write_bytes(data)
        if caption:
            (folder / f"{number:06d}.txt").write_text(caption, encoding="utf-8")


def _rows(path: Path) -> Iterator[tuple[bytes, str]]:
    import pyarrow.parquet  # one of SimpleTuner's own packages

    file = pyarrow.parquet.ParquetFile(path)
    names = file.schema_arrow.names
    caption = next((name for name in CAPTION_KEYS if name in names), None)
    if "image" not in names:
        raise NoImages(f"{path.name} has no column image")
    for batch in file.iter_batches(64, columns=["image", *([caption] if caption else [])]):
        for row in batch.to_pylist():
            image = row["image"]
            data = image.get("bytes") if isinstance(image, dict) else image
            yield data or b"", str(row[caption] or "") if caption else ""
