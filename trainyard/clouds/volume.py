"""What a pod with a network volume is told: where it is mounted, and that caches belong on it, for the next pod."""

from __future__ import annotations

VOLUME_MARK = "TRAINYARD_VOLUME"


def volume_env(path: str) -> dict[str, str]:
    """Return the variables of a pod whose network volume is mounted at a path."""
    # Hard links do not lead from one file system to another, and uv warns at each file.
    return {VOLUME_MARK: path, "HF_HOME": f"{path}/huggingface", "UV_CACHE_DIR": f"{path}/uv", "UV_LINK_MODE": "copy"}


def file_store(path: str) -> str:
    """Return the folder of a network volume that keeps what runs were sent, by sha256, for the next pod."""
    return f"{path}/trainyard/files"
