"""Push files to the Hugging Face Hub from this machine, and prove them there. Knows nothing of pods and buckets.

The token is the controller's and goes to no pod. What is there already with the right hash is not sent again, so a push
that was cut off is gone on with by the same call.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import StoreError
from trainyard.secret import Secret
from trainyard.storage.answers import is_passing
from trainyard.storage.manifest import ManifestEntry

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ENDPOINT = "https://huggingface.co"
CARD = "README.md"
_AT_ONCE = 500
_HINTS = {
    401: "The Hub does not know this HF_TOKEN: make one with write access at huggingface.co/settings/tokens",
    403: "HF_TOKEN may not write there: it needs write access to that user or organization.",
    404: "There is no such user or organization, or HF_TOKEN may not see it.",
    429: "The Hub asks for a pause: repeat the command later.",
}


@dataclass(frozen=True, slots=True)
class HubPush:
    """What lies on the Hub now, proven there. ``sent``: files of this push; ``public``: anybody can read the repository."""

    url: str
    revision: str
    files: int
    sent: int
    public: bool


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of this machine and what it must be."""

    path: Path
    entry: ManifestEntry


def push(files: Mapping[str, HubFile], repo: str, token: Secret, *, message: str, card: str, endpoint: str = ENDPOINT) -> HubPush:
    """Make the files (by the names they get) the newest commit of a repository, made private where there is none.

    ``card`` becomes its README.md where neither the files nor the repository have one. Raises StoreError when the Hub refuses,
    or holds something else than was sent.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api, where = HfApi(endpoint=endpoint, token=token.reveal()), f"{endpoint.rstrip('/')}/{repo}"
    trouble: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, *_transport_errors())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model may hold .parquet files, and a card no metadata
            api.create_repo(repo, private=True, exist_ok=True)
            wrong = _differing(api, repo, "main", files)
            operations = [CommitOperationAdd(name, str(files[name].path)) for name in wrong]
            if CARD not in files and not api.get_paths_info(repo, [CARD]):
                operations.append(CommitOperationAdd(CARD, card.encode()))
            if operations:
                revision = str(api.create_commit(repo, operations, commit_message=message).oid)
                left = _differing(api, repo, revision, files)
            else:
                revision, left = str(api.repo_info(repo).sha), []
            public = api.repo_info(repo).private is False
    except trouble as error:
        raise _refusal(where, error) from error
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        said = f"{where}: the Hub does not hold what was sent: {', '.join(left[:5])}{more}"
        raise StoreError(said, hint="A .gitignore there may leave them out.")
    return HubPush(where, revision, len(files), len(wrong), public)


def _differing(api: HfApi, repo: str, revision: str, files: Mapping[str, HubFile]) -> list[str]:
    """Return the names of files that the Hub does not hold with the right hash and size."""
    names, there = sorted(files), {}
    for start in range(0, len(names), _AT_ONCE):
        for info in api.get_paths_info(repo, names[start : start + _AT_ONCE], revision=revision):
            there[info.path] = info
    return [name for name in names if not _is_right(there.get(name), files[name])]


def _is_right(info: object, file: HubFile) -> bool:
    entry = file.entry
    if info is None or getattr(info, "size", None) != entry.size:
        return False
    lfs = getattr(info, "lfs", None)
    if lfs is not None:
        return bool(lfs.sha256 == entry.sha256 and lfs.size == entry.size)
    return getattr(info, "blob_id", None) == _blob_id(file.path, entry.size)


def _blob_id(path: Path, size: int) -> str:
    """Return the name that git gives to a file."""
    digest = hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return what the library's HTTP client raises where nobody answers: which client it is has changed from version to version."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError" and issubclass(kind, Exception))


def _refusal(where: str, error: BaseException) -> StoreError:
    """Return the Hub's refusal, or what kept it from answering, with what a person can do."""
    seen: BaseException | None = error
    status = 0
    while seen is not None and not status:
        status = int(getattr(getattr(seen, "response", None), "status_code", 0) or 0)
        seen = seen.__cause__
    said = f"the Hub answered {status}" if status else "the Hub could not be used"
    own = getattr(error, "server_message", None) or str(error)
    why = next(iter(own.strip().splitlines()), type(error).__name__).rstrip(".")
    passing = is_passing("", status) if status else not isinstance(error, ValueError)
    return StoreError(f"{where}: {said}: {why}", hint=_HINTS.get(status), passing=passing)
