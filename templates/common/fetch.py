"""Bring data that the bundle only names: files in a bucket by signed URL, data sets of the Hugging Face Hub.

Signed URLs lie in INPUT_DIR/.sources.json ({"name": "https://..."}), put there by whoever holds the keys; they are
no part of the bundle. Every file with an announced sha256 is checked; a broken download goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from typing import Any

RUN_DIR, INPUT_DIR = os.environ["RUN_DIR"], os.environ["INPUT_DIR"]
# No name of data is hidden: what is half fetched lies where none of them can.
PARTS = os.path.join(INPUT_DIR, ".fetch")
ATTEMPTS, PAUSE = 5, 2.0
SUFFIXES = ["*.jsonl", "*.ndjson", "*.json", "*.csv", "*.tsv", "*.parquet"]


def main() -> int:
    """Fetch what is missing; return the exit code."""
    with open(os.path.join(RUN_DIR, "data.json"), encoding="utf-8") as file:
        data = json.load(file)
    if data["hub"]:
        return from_hub(data["hub"])
    sources_path = os.path.join(INPUT_DIR, ".sources.json")
    sources = {}
    if os.path.exists(sources_path):
        with open(sources_path, encoding="utf-8") as file:
            sources = json.load(file)
    for item in data["files"]:
        if not stays_below(item["dest"]):
            print("fetch: {!r} would not lie below input/: not fetched".format(item["dest"]), file=sys.stderr)
            return 1
    for item in data["files"]:
        target = os.path.join(INPUT_DIR, item["dest"])
        if os.path.isfile(target) and sha256(target) == item["sha256"]:
            continue
        if item["dest"] not in sources:
            print("fetch: {} is not here, and .sources.json has no URL for it".format(item["dest"]), file=sys.stderr)
            return 1
        if not download(sources[item["dest"]], target, item):
            return 1
    shutil.rmtree(PARTS, ignore_errors=True)
    return 0


def stays_below(name: str) -> bool:
    """Return whether a name is a plain path below the folder it is joined to."""
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def download(url: str, target: str, item: dict[str, Any]) -> bool:
    """Download one file, going on after breaks; return whether it is as announced."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.makedirs(PARTS, exist_ok=True)
    partial = os.path.join(PARTS, hashlib.sha256(item["dest"].encode("utf-8")).hexdigest())
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, partial)
            break
        except (OSError, urllib.error.URLError) as error:
            # The URL is a credential for its file: it is never printed.
            reason = getattr(error, "code", None) or getattr(error, "reason", None) or type(error).__name__
            print(f"fetch: {item['dest']}: attempt {attempt} of {ATTEMPTS} failed: {reason}", file=sys.stderr)
            if attempt == ATTEMPTS or getattr(error, "code", None) in (401, 403, 404):
                return False
            time.sleep(PAUSE * attempt)
    if sha256(partial) != item["sha256"]:
        print("fetch: {} is other than announced".format(item["dest"]), file=sys.stderr)
        os.remove(partial)
        return False
    os.replace(partial, target)
    print(f"fetch: {item['dest']}, {item['bytes']} bytes", flush=True)
    return True


def _transfer(url: str, partial: str) -> None:
    have = os.path.getsize(partial) if os.path.exists(partial) else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return
        raise
    with answer, open(partial, "ab" if answer.status == 206 else "wb") as out:
        shutil.copyfileobj(answer, out, 1 << 20)
        length = answer.headers.get("Content-Length")
        if length and out.tell() != int(length) + (have if answer.status == 206 else 0):
            raise OSError("cut off")


def from_hub(hub: dict[str, Any]) -> int:
    """Download a data set's files of rows (or the one path) with the Hub's own client."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import snapshot_download

    patterns = [hub["path"], hub["path"].rstrip("/") + "/*"] if hub["path"] else SUFFIXES
    if hub.get("split"):
        below = hub["path"].rstrip("/") + "/" if hub["path"] else ""
        patterns = ["{}*{}{}".format(below, hub["split"], suffix) for suffix in SUFFIXES]
    snapshot_download(
        hub["repo"], repo_type="dataset", revision=hub["revision"], allow_patterns=patterns, local_dir=os.path.join(INPUT_DIR, "hub")
    )
    return 0


def sha256(path: str) -> str:
    """Return a file's sha256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
