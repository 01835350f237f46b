"""Data in a bucket: each object gets its own name below the reference, and what would not lie below input/ is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.recipes.conftest import ROOT
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.runs.planning import bucketdata
from trainyard.storage.bucket import Item
from trainyard.storage.client import StoreSettings, s3


@pytest.mark.parametrize(
    ("below", "names"),
    [
        ("", ["a/b/y", "a/x", "b/x", "x"]),
        ("a", ["b/y", "x"]),
        ("a/", ["b/y", "x"]),
        ("a/x", ["x"]),
        ("x", ["x"]),
    ],
)
def test_objects_are_named_below_the_reference(
    below: str, names: list[str], settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucketdata, "_store", lambda *_: settings)
    for key in ("a/x", "a/b/y", "b/x", "x"):
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=key.encode())
    resolve = bucketdata.resolver(None, None)  # type: ignore[arg-type]
    found = inspect(f"s3://{settings.bucket}/{below}", load_recipe(ROOT, "command"), resolve)
    assert [file.dest for file in found.files] == names


class Pretended:
    """As much of a store's settings as is asked for."""

    url, bucket = "s3://b", "b"


@pytest.mark.parametrize("key", ["data//escaped.txt", "data/../up.txt", "data/x/../../up", "data/a.txt/b"])
def test_a_key_that_would_not_lie_below_input_is_refused_before_anything_is_rented(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Pretended()
    monkeypatch.setattr(bucketdata, "_store", lambda *_: store)
    monkeypatch.setattr(bucketdata, "MOST_VERSIONS", 0)
    # As AWS lists them; the local store tidies such keys.
    monkeypatch.setattr(bucketdata, "listing", lambda *_: [Item("data/a.txt", 1, 0.0), Item(key, 1, 0.0)])
    with pytest.raises(UserError, match=r"--data s3://b/data/: "):
        inspect("s3://b/data/", load_recipe(ROOT, "command"), bucketdata.resolver(None, None))  # type: ignore[arg-type]


def test_a_bucket_that_is_not_there_is_a_slip_in_the_reference(settings: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucketdata, "_store", lambda *_: replace(settings, bucket="not-there"))
    with pytest.raises(UserError, match=r"--data s3://not-there/x/: there is no bucket 'not-there' in its store") as refused:
        bucketdata.resolver(None, None)("s3://not-there/x/")  # type: ignore[arg-type]
    assert "up --stack" not in str(refused.value.hint)  # which makes no bucket of data
