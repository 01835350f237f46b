"""The schema that an editor knows and the reader that judges say the same of a settings file: values are drawn and both are asked."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from trainyard import yamlfile
from trainyard.config import Places, places
from trainyard.errors import UserError
from trainyard.settings import page
from trainyard.settings.table import SETTINGS, clouds_that_know, known_to
from trainyard.stacks.facade import settings_of
from trainyard.storage.rules import declared_rules

JUDGE = jsonschema.Draft7Validator(page.schema())
KEYS = {
    "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "https://x.y", "R2_ACCESS_KEY_ID": "a",
    "R2_SECRET_ACCESS_KEY": "b", "R2_ENDPOINT_URL": "https://x.y", "RUNPOD_S3_ACCESS_KEY": "a", "RUNPOD_S3_SECRET_KEY": "b",
    "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io",
}  # fmt: skip
PLAIN: list[object] = [
    0, 1, -1, 2, 101, 745, 12345678, 0.5, -0.5, 2.0, 13.0, 1e14, 1e15, 1e30, -1e30, 1e-7, math.nan, math.inf, -math.inf, True, False, None,
    "", " ", "x", "0", "3", "-3", "2.0", "1.5", "1e3", "1_0", " 3", "٣", "nan", "inf", "1e30", "true", "false", "True", "no", "22/tcp",
    "65535/http", "65536/http", "0/tcp", "22/udp", "13.0", "13", "a0533aa1", "my-results-1", "../x", "/etc/key", "~/key", "key", "A B",
    "A_1",
    "AWS_ACCESS_KEY_ID", "PULUMI_X", "HF_TOKEN", "local", "runpod", "r2", "s3", "builtin", "SECURE", "ask", "block", "[", "{", "[]", "{}",
    '["A"]', '["22/tcp"]', '{"A": 1}', '{"A": null}', "none",
]  # fmt: skip
RULES: list[object] = [
    {"prefix": "tmp/", "expire_days": 3}, {"prefix": "tmp/", "expire_days": "3"}, {"prefix": "tmp/", "expire_days": 0}, {"prefix": "tmp/"},
    {"prefix": "/tmp", "expire_days": 1}, {"prefix": 7, "expire_days": 1},
    {"prefix": True, "expire_days": 1}, {"id": "A", "expire_days": 1},
    {"id": "a-b", "prefix": "tmp/", "noncurrent_days": 1.5}, {"prefix": "", "abort_uploads_days": 2}, {"days": 1}, {"expire_days": None},
    {"prefix": None, "noncurrent_days": 1, "expire_days": None}, {"prefix": "tmp/", "expire_days": math.nan}, {}, 1,
]  # fmt: skip


def drawn(kind: str) -> Iterator[object]:
    """Yield values, and lists or maps of them where a setting is one."""
    yield from PLAIN
    yield from ([one] for one in (PLAIN if kind == "texts" else ("x", 1)))
    yield from ({"A": one} for one in (PLAIN if kind == "mapping" else ("x", 1)))
    yield from ([rule] for rule in (RULES if kind == "mappings" else RULES[:1]))
    yield from (
        [], {}, [[]], [{}], {"a b": "x"}, {"AWS_ACCESS_KEY_ID": "x"}, {"secure": "v1:x"}, {"A": {"secure": "v1:x"}}, {"A": {"secure": 1}},
        {"A": {"x": "y"}}, {"A": []}, ["A", "B"], ["22/tcp", "8888/http"], ["22/tcp", "x"], {"secure": 1}, {"secure": {}},
    )  # fmt: skip


def reader_says(at: Places, config: dict[str, object]) -> str | None:
    """Return what the reader has against a file, None when nothing."""
    (at.root / "Pulumi.runpod.yaml").write_text(yamlfile.dump({"config": config}), encoding="utf-8")
    try:
        settings_of("runpod", at, KEYS)
    except UserError as error:
        return str(error)
    return None


BESIDE: dict[str, dict[str, object]] = {
    "pods": {"trainyard:hours": 2}, "i_know_that_pods_can_steal_my_store_keys": {"trainyard:pod_store": "read"},
}  # fmt: skip
"""What a setting needs beside it."""


def no_schema_can_tell(name: str, value: object) -> bool:
    """Tell whether a wrong value is one that JSON Schema has no word for; the reader alone refuses it, at its place."""
    shape = SETTINGS[name].shape
    inside = list(value) if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
    inside += [each for one in inside if isinstance(one, dict) for each in one.values()]
    number_as_text = shape.pattern is not None and isinstance(value, (int, float, list))
    return (
        any(isinstance(one, float) and not abs(one) < 1e15 for one in inside)  # JSON knows neither NaN nor 1e30 from a whole number
        or (isinstance(value, str) and shape.kind in ("number", "whole"))  # a number in quotes: its looks, not its size
        or (isinstance(value, str) and value[:1] in ("[", "{"))  # JSON in quotes
        or number_as_text  # a number where a pattern judges its text
        or name == "lifecycle"  # which prefixes hold results, and whether two rules have one name
        or name == "ssh_key_file"  # whether the file is there
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_reader_takes_the_schema_takes_and_what_it_refuses_too(name: str, tmp_path: Path) -> None:
    at = places(tmp_path, {})
    more = BESIDE.get(name, {}) | ({} if known_to(name, "runpod") else {"trainyard:cloud": clouds_that_know(name)[0]})
    for value in drawn(SETTINGS[name].shape.kind):
        config = {f"trainyard:{name}": value, **more}
        said, valid = reader_says(at, config), JUDGE.is_valid({"config": config})

        if said is None or "there is no" in said:
            assert valid, f"{value!r}: an editor warns of what is right"
        elif valid:
            assert no_schema_can_tell(name, value), f"{value!r}: an editor is silent, the reader says {said}"


def test_what_is_wrong_only_together_is_wrong_for_both(tmp_path: Path) -> None:
    lines: list[tuple[str, object]] = [
        ("cloud", "local"), ("cloud", "runpod"), ("image", "a"), ("template", "t"), ("pods", 1), ("pods", 0), ("pods", "2"), ("hours", 2),
        ("spot", False),
        ("spot", True), ("regions", []), ("regions", ["EU"]), ("tier", "ALL"), ("min_cuda", 13.0), ("image_gb", 20), ("disk_gb", 5),
        ("registry", {"secure": "v1:x"}),
    ]  # fmt: skip
    at = places(tmp_path, {})
    for pair in itertools.combinations(lines, 3):
        config = {f"trainyard:{name}": value for name, value in pair}
        assert JUDGE.is_valid({"config": config}) == (reader_says(at, config) is None), config


def test_rules_of_the_bucket_are_judged_alike() -> None:
    draws = random.Random(5)
    names = ("prefix", "id", "expire_days", "noncurrent_days", "abort_uploads_days", "days")
    for _ in range(500):
        rule = {name: draws.choice(PLAIN) for name in draws.sample(names, draws.randint(1, 3))}
        try:
            declared_rules([rule])
            taken = True
        except UserError as error:
            taken = "results never expire" in error.message
        valid = JUDGE.is_valid({"config": {"trainyard:lifecycle": [rule]}})
        quoted = [value for name, value in rule.items() if name.endswith("_days") and isinstance(value, str)]
        odd = [value for value in rule.values() if isinstance(value, float)]
        assert valid == taken or (valid and (quoted or odd or isinstance(rule.get("id"), int))), json.dumps(rule)
