"""A file of the web as data: its size, asked of its server, and the sha256 that a person has to know beforehand."""

from __future__ import annotations

import itertools
import re
from urllib.parse import unquote, urlsplit

from trainyard.errors import UserError
from trainyard.network import web_address
from trainyard.recipes.data import BucketFile
from trainyard.storage.podtargets import EXTENT

_PATIENCE = 30.0


def look(reference: str) -> BucketFile:
    """Return the file behind ``https://host/path#sha256=HEX``; nothing of it is read here.

    Raises UserError for a reference without a hash or with a key in it, and where the server does not tell a size.
    """
    import httpx  # a tenth of a second that no other data need

    url, _, fragment = reference.partition("#")
    digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
    if digest is None:
        hint = f"Take it of a file that you trust (sha256sum FILE), and write: --data '{url}#sha256=...'"
        raise UserError(f"--data {reference}: say which bytes are meant", hint=hint)
    parts = web_address("--data", url)
    if parts.query:
        # The reference is kept in the run's record, and a query is where keys and signatures stand.
        raise UserError(
            f"--data {parts.scheme}://{parts.netloc}{parts.path}: leave out what follows '?': it would be kept in the run's record"
        )
    try:
        answer = httpx.head(url, follow_redirects=True, timeout=_PATIENCE, headers={"Accept-Encoding": "identity"})
    except httpx.HTTPError as error:
        raise UserError(f"--data {url}: its server does not answer: {error}") from None
    hops = [hop.url.scheme for hop in (*answer.history, answer)] if answer.history else []
    if ("https", "http") in itertools.pairwise(hops):  # no pod follows there (pod/fetcher.py), and it would be paid for nothing
        raise UserError(f"--data {url}: its server leads away from https, to {answer.url.host}", hint="Download it, and name the file.")
    size = answer.headers.get("Content-Length", "")
    parted = size.isdigit() and (int(size) <= EXTENT or answer.headers.get("Accept-Ranges") == "bytes")
    if answer.status_code != 200 or not parted:
        said = f"answered {answer.status_code}" if answer.status_code != 200 else "does not tell its size, or sends no ranges of it"
        raise UserError(f"--data {url}: its server {said}", hint="Download it, and name the file.")
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return BucketFile(url, name, int(size), None, digest[1])
