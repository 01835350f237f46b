"""Push files to the Hugging Face Hub from this machine, and prove them there. Knows nothing of pods and buckets.

The token is the controller's and goes to no pod. What is there already with the right hash is not sent again, so a push
that was cut off is gone on with by the same call.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.errors import RefusedError, StoreError
from trainyard.secret import Secret
from trainyard.storage.answers import is_passing
from trainyard.storage.manifest import ManifestEntry

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ENDPOINT = "https://huggingface.co"
CARD = "README.md"
_ATTRIBUTES = ".gitattributes"
"""The Hub writes it into each repository."""
_AT_ONCE = 500
_WORDS = 300
"""Characters of a refusal that are told."""
_ODD = (ValueError, TypeError, LookupError, AttributeError)
"""What the client raises over an answer that is not as the Hub's are: a proxy's page, a server of something else."""
_HINTS = {
    401: "The Hub does not know this HF_TOKEN: make one with write access at huggingface.co/settings/tokens",
    403: "HF_TOKEN may not write there: it needs write access to that user or organization.",
    404: "There is no such user or organization, or HF_TOKEN may not see it.",
    429: "The Hub asks for a pause: repeat the command later.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlace:
    """A repository and how it is written to."""

    repo: str
    token: Secret
    endpoint: str = ENDPOINT
    public: bool | None = None
    """Whether anybody may read it; None: nobody where it is made, and as it is where it is there."""
    branch: str = "main"

    @property
    def url(self) -> str:
        """Its address, for a person."""
        return f"{self.endpoint.rstrip('/')}/{self.repo}" + ("" if self.branch == "main" else f"/tree/{self.branch}")


@dataclass(frozen=True, slots=True)
class HubPush:
    """What lies on the Hub now, proven there. ``sent``: files of this push; ``public``: anybody can read the repository."""

    url: str
    revision: str
    files: int
    sent: int
    public: bool
    others: tuple[str, ...] = ()
    """What lies there beside it, from before."""
    card_kept: bool = False
    """A person's README.md was there and stays."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of this machine and what it must be."""

    path: Path
    entry: ManifestEntry


def signed_card(text: str) -> str:
    """Return a model card with the mark by which a later push knows that nobody has edited it."""
    return f"{text}\n{_mark(text)}\n"


def open_repository(place: HubPlace) -> None:
    """See to it that a repository is there and may be written to; it is made private unless it shall be public.

    Raises StoreError where the Hub refuses, RefusedError where who may read it is not what was asked for.
    """
    with _refusals(place):
        _opened(place)


def push(files: Mapping[str, HubFile], place: HubPlace, *, message: str, card: HubFile | None, alone: bool = False) -> HubPush:
    """Make the files (by the names they get) and a card the newest commit of a repository, made where there is none.

    The card becomes its README.md unless a person's is there. ``alone`` takes away what else lies there, that too. Raises
    StoreError when the Hub refuses, or holds something else than was sent, RefusedError as open_repository() does.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    with _refusals(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model may hold .parquet files, and a card no metadata
        api, public = _opened(place)
        there = sorted(set(api.list_repo_files(place.repo, revision=place.branch)) - {_ATTRIBUTES})
        kept = card is not None and not alone and CARD in there and not _is_unedited(api, place)
        whole = {**files, **({CARD: card} if card is not None and not kept else {})}
        others = tuple(name for name in there if name not in whole and name != CARD)
        wrong = _differing(api, place.repo, place.branch, whole)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationAdd(name, str(whole[name].path)) for name in wrong]
        operations += [CommitOperationDelete(name) for name in others if alone]
        if operations:
            revision = str(api.create_commit(place.repo, operations, commit_message=message, revision=place.branch).oid)
            left = _differing(api, place.repo, revision, whole)
        else:
            revision, left = str(api.repo_info(place.repo, revision=place.branch).sha), []
    if left:
        more = f" and {len(left) - 5} more" if len(left) > 5 else ""
        said = f"{place.url}: the Hub does not hold what was sent: {', '.join(left[:5])}{more}"
        raise StoreError(said, hint="A .gitignore there may leave them out.")
    return HubPush(place.url, revision, len(whole), len(wrong), public, () if alone else others, kept)


def _opened(place: HubPlace) -> tuple[HfApi, bool]:
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    api = HfApi(endpoint=place.endpoint, token=place.token.reveal())
    api.create_repo(place.repo, private=not place.public, exist_ok=True)
    public = api.repo_info(place.repo).private is False
    if place.public is not None and public != place.public:
        is_now, option = ("public", "--public") if public else ("private", "--private")
        raise RefusedError(
            f"{place.url} is there and is {is_now}; nothing was sent",
            hint=f"Say {option}, name another repository, or change it: {place.endpoint.rstrip('/')}/{place.repo}/settings",
        )
    if place.branch != "main":
        api.create_branch(place.repo, branch=place.branch, exist_ok=True)
    return api, public


def _is_unedited(api: HfApi, place: HubPlace) -> bool:
    """Tell whether the README.md of a repository is as a push has left it."""
    with tempfile.TemporaryDirectory(prefix="trainyard-") as scratch:
        path = Path(api.hf_hub_download(place.repo, CARD, revision=place.branch, local_dir=scratch))
        text, _, mark = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").rpartition("\n")
    return mark == _mark(text)


def _mark(text: str) -> str:
    return f"<!-- written by Trainyard {hashlib.sha256(text.encode()).hexdigest()[:16]} -->"


@contextmanager
def _refusals(place: HubPlace) -> Iterator[None]:
    """Turn what the Hub's client raises into a StoreError that says what to do."""
    trouble: tuple[type[Exception], ...] = (OSError, RuntimeError, *_ODD, *_transport_errors())
    try:
        yield
    except trouble as error:
        raise _refusal(place.url, error) from error


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
    why = next(iter(own.strip().splitlines()), type(error).__name__)[:_WORDS].rstrip(".")
    passing = is_passing("", status) if status else not isinstance(error, _ODD)
    return StoreError(f"{where}: {said}: {why}", hint=_HINTS.get(status), passing=passing)
