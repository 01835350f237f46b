"""What a folder of images and captions holds: each image with its size and caption, or what is wrong with it. Travels in the bundle.

Standard library only, Python >= 3.10: the controller judges by it before anything is rented, the recipe's program on the pod. A
caption is the text file of the image's name, a line of a ``metadata.jsonl`` in its folder, its file's name, or one text for all.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
METADATA = "metadata.jsonl"
CAPTION_KEYS = ("text", "caption", "prompt", "description")
"""What a caption is called in lines and tables; the first that is there counts."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG behind which its size stands."""
_SAMPLES = {2: 3, 4: 2, 6: 4}
"""Numbers of a pixel of a PNG, by its kind of colours, where they are more than one."""
_BLOCK = 1 << 20
_BARE = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers behind which nothing stands."""


class Image(NamedTuple):
    """An image that can be trained: its name below the data, its size, its caption (None: one text for all)."""

    name: str
    width: int
    height: int
    caption: str | None


class ImageFlaw(NamedTuple):
    """What is wrong, and where: a file, with the line of a metadata.jsonl."""

    name: str
    line: int
    reason: str


class Survey(NamedTuple):
    """What a folder holds."""

    images: tuple[Image, ...]
    flaws: tuple[ImageFlaw, ...]
    unused: tuple[str, ...]
    """Files that are neither an image nor a caption."""


def survey(files: Mapping[str, Path], captions: str, smallest: int) -> Survey:
    """Judge files by their names below the data.

    ``captions``: where they come from, in SimpleTuner's words (textfile, filename, instanceprompt); a metadata.jsonl counts wherever it
    names the image. ``smallest``: pixels that the shorter side must have.
    """
    images: list[Image] = []
    flaws: list[ImageFlaw] = []
    by_image, used = _metadata(files, flaws)
    for name in sorted(files):
        if not name.lower().endswith(SUFFIXES):
            continue
        text = name.rpartition(".")[0] + ".txt"
        used.update((name, text))
        try:
            with files[name].open("rb") as stream:
                width, height = size_of(stream)
            if min(width, height) < smallest:
                raise ValueError(f"is {width} x {height} pixels, and {smallest} is the least (minimum_image_size)")
            caption = by_image.get(name) or _caption(name, files.get(text), captions)
        except ValueError as error:
            flaws.append(ImageFlaw(name, 0, str(error)))
        else:
            images.append(Image(name, width, height, caption))
    return Survey(tuple(images), tuple(flaws), tuple(sorted(set(files) - used)))


def size_of(stream: BinaryIO) -> tuple[int, int]:
    """Return width and height of an image that is whole; raises ValueError for what is none, or ends too early."""
    head = stream.read(12)
    stream.seek(0)
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(stream)
        if head.startswith(b"\xff\xd8"):
            return _jpeg(stream)
        if head.startswith(b"RIFF") and head[8:] == b"WEBP":
            return _webp(stream)
    except (struct.error, IndexError):
        raise ValueError("is no whole image: it ends too early") from None
    raise ValueError("is no PNG, JPEG or WebP image" if head else "is empty")


def _metadata(files: Mapping[str, Path], flaws: list[ImageFlaw]) -> tuple[dict[str, str], set[str]]:
    """Return the captions that files of metadata give, by the images' names, and which files these are."""
    by_image: dict[str, str] = {}
    own = {name for name in files if name.rpartition("/")[2] == METADATA}
    for name in sorted(own):
        below = name.removesuffix(METADATA)
        for number, fields in _lines(files[name]):
            where = fields.get("file_name") if isinstance(fields, dict) else None
            caption = next((fields[key] for key in CAPTION_KEYS if isinstance(fields.get(key), str)), "") if where else ""
            if not isinstance(where, str):
                flaws.append(ImageFlaw(name, number, "the line is no object with a file_name"))
            elif below + where not in files:
                flaws.append(ImageFlaw(name, number, f"names {where}, which is not there"))
            elif not caption.strip():
                flaws.append(ImageFlaw(name, number, f"has no caption ({', '.join(CAPTION_KEYS)})"))
            else:
                by_image[below + where] = caption.strip()
    return by_image, own


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, None


def _caption(name: str, text: Path | None, captions: str) -> str | None:
    if captions == "instanceprompt":
        return None
    if captions == "filename":
        return name.rpartition("/")[2].rpartition(".")[0].replace("_", " ")
    if text is None:
        raise ValueError(f"has no caption: neither a .txt of its name nor a line in {METADATA} (or say instance_prompt, one text for all)")
    try:
        caption = text.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError:
        raise ValueError("has a caption that is no UTF-8") from None
    if not caption:
        raise ValueError("has an empty caption")
    return caption


def _png(stream: BinaryIO) -> tuple[int, int]:
    """Read chunk by chunk: each is proven by its own sum, the last one says that it is, and the picture must be there to its last row."""
    stream.read(8)
    size, picture, there, rows = (0, 0), zlib.decompressobj(), 0, 0
    while True:
        length, kind = struct.unpack(">I4s", stream.read(8))
        data, checksum = stream.read(length), stream.read(4)
        if struct.unpack(">I", checksum)[0] != zlib.crc32(kind + data):
            raise ValueError("is no whole image: a part of it is damaged")
        if kind == b"IHDR":
            size, rows = struct.unpack(">II", data[:8]), _png_bytes(data)
        while kind == b"IDAT" and data and there < rows:
            try:
                there += len(picture.decompress(data, _BLOCK))
            except zlib.error:
                raise ValueError("is no whole image: a part of it is damaged") from None
            data = picture.unconsumed_tail
        if kind == b"IEND":
            if there < rows:
                raise ValueError("is no whole image: its picture ends too early")
            return size


def _png_bytes(head: bytes) -> int:
    """Return how many bytes the rows of a PNG are, unpacked; 1 where they are interlaced, and not so easily counted."""
    width, height, depth, colours, *_, interlaced = struct.unpack(">IIBBBBB", head)
    return 1 if interlaced else height * (1 + (width * depth * _SAMPLES.get(colours, 1) + 7) // 8)


def _jpeg(stream: BinaryIO) -> tuple[int, int]:
    data = stream.read()
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            # Some cameras write more behind the end; nothing but the marker itself says that the picture is whole.
            if data.rfind(b"\xff\xd9") <= at:
                raise ValueError("is no whole image: it ends too early")
            return width, height
        at += 1 if marker == 0xFF else 2 if marker in _BARE else 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    raise ValueError("is no whole image: a part of it is damaged")


def _webp(stream: BinaryIO) -> tuple[int, int]:
    data = stream.read()
    if len(data) < 8 + struct.unpack("<I", data[4:8])[0]:
        raise ValueError("is no whole image: it ends too early")
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF
