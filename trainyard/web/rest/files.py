"""The files of a run's result over HTTP: which, with their hashes, and each by a URL that the store has signed for a while."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel

from trainyard.ledger.runid import RunId
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.stores import store_of
from trainyard.storage.client import StoreSettings
from trainyard.storage.manifest import MANIFEST, Manifest, ResultKey, decode, sha256
from trainyard.storage.seal import read_result
from trainyard.storage.signing import signed_url
from trainyard.web.guard.principal import Reader, TheSite
from trainyard.web.live.following import TheRun
from trainyard.web.site import Site

router = APIRouter(tags=["files"])
_LIFE = 300.0
"""Seconds for which a URL is signed."""


class ResultFile(BaseModel):
    """A file of a result; size in bytes."""

    path: str
    size: int
    sha256: str


class ResultFiles(BaseModel):
    """A result that was proven: its manifest has this hash."""

    manifest_sha256: str
    files: list[ResultFile]


@router.get("/runs/{user}/{label}/{attempt}/files")
def result_files(site: TheSite, _who: Reader, run: TheRun) -> ResultFiles:
    """List the files of a result with their sha256, as its proven manifest has them."""
    _, _, manifest, digest = _result(site, run)
    files = [ResultFile(path=each.path, size=each.size, sha256=each.sha256) for each in manifest.files]
    return ResultFiles(manifest_sha256=digest, files=files)


@router.get(
    "/runs/{user}/{label}/{attempt}/files/{name:path}", response_class=Response, status_code=307,
    responses={200: {"content": {"application/octet-stream": {}}}},
)  # fmt: skip
def result_file(site: TheSite, _who: Reader, run: TheRun, name: Annotated[str, Path(max_length=1000)]) -> Response:
    """Send to a file of a result in its bucket by a URL that is signed for five minutes; what lies here is sent itself."""
    record, store, manifest, _ = _result(site, run)
    entry = next((each for each in manifest.files if each.path == name), None)
    if entry is None:
        raise HTTPException(404, f"the result of {run}/{run.attempt} has no such file")
    if store is None:
        assert record.result is not None and record.result.local_path is not None
        path = site.context.places.root / record.result.local_path / entry.path
        if path.is_symlink() or not path.is_file():
            raise HTTPException(404, "this file of the result is not here any more")
        return FileResponse(path, media_type="application/octet-stream")
    if not store.presign:
        way = f"invoke download {run}/{run.attempt} DIR"
        raise HTTPException(409, f"the store of kind '{store.kind}' signs no URLs: fetch the result with {way}")
    key = ResultKey(run.user, run.label, run.attempt).prefix + entry.path
    return RedirectResponse(signed_url(store, "get_object", {"Bucket": store.bucket, "Key": key}, most=_LIFE), 307)


def _result(site: Site, run: RunId) -> tuple[RunRecord, StoreSettings | None, Manifest, str]:
    """Return a run's record, the store that holds its result (None: it lies here), and its proven manifest; raises 404 without one."""
    folder = RunFolder(run.folder(site.context.places.runs))
    if not (folder.path / "run.json").is_file():
        raise HTTPException(404, f"the record of run {run}/{run.attempt} is not on this server's machine")
    record = folder.load()
    result = record.result
    if result is None or not (result.s3_url or result.local_path):
        raise HTTPException(404, f"run {run}/{run.attempt} has no result")
    store = store_of(site.context, record.bucket) if result.s3_url else None
    if store is not None:
        proven = read_result(store, ResultKey(run.user, run.label, run.attempt))
        if proven is None:
            raise HTTPException(404, f"the bucket has no proven result of run {run}/{run.attempt}")
        return record, store, proven.manifest, proven.manifest_sha256
    if result.local_path is None:
        raise HTTPException(404, "no keys of the store that has this result are set on this server's machine")
    path = site.context.places.root / result.local_path / MANIFEST
    data = path.read_bytes() if path.is_file() else b""
    if sha256(data) != result.manifest_sha256:
        raise HTTPException(404, "the result's manifest is not here any more, or is another one")
    return record, None, decode(data, str(path)), result.manifest_sha256
