"""Bring data sets of the Hugging Face Hub, which the bundle only names; all other data lie in INPUT_DIR before the bundle is run."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

RUN_DIR, INPUT_DIR = os.environ["RUN_DIR"], os.environ["INPUT_DIR"]
SUFFIXES = ["*.jsonl", "*.ndjson", "*.json", "*.csv", "*.tsv", "*.parquet"]
PICTURES = ["*.png", "*.jpg", "*.jpeg", "*.webp", "*.txt"]
"""What a recipe of images takes, too: its bundle has the module that judges them."""


def main() -> int:
    """Download a data set's files of rows (or the one path) with the Hub's own client."""
    with open(os.path.join(RUN_DIR, "data.json"), encoding="utf-8") as file:
        hub: dict[str, Any] = json.load(file)["hub"]
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import snapshot_download

    patterns = [hub["path"], hub["path"].rstrip("/") + "/*"] if hub["path"] else SUFFIXES
    if not hub["path"] and os.path.exists(os.path.join(RUN_DIR, "images.py")):
        patterns = [*SUFFIXES, *PICTURES]
    if hub.get("split"):
        below = hub["path"].rstrip("/") + "/" if hub["path"] else ""
        patterns = ["{}*{}{}".format(below, hub["split"], suffix) for suffix in SUFFIXES]
    snapshot_download(
        hub["repo"], repo_type="dataset", revision=hub["revision"], allow_patterns=patterns, local_dir=os.path.join(INPUT_DIR, "hub")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
