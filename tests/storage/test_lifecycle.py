"""Lifecycle rules: declared, compared in a normal form, merged, kept where the store has none."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.conftest import places_at
from tests.storage.lying_proxy import Fault, LyingProxy, rewritten
from trainyard.errors import StoreError, UserError
from trainyard.stacks.facade import settings_of
from trainyard.storage import lifecycle
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.rules import Rule, declared_rules, from_wire, normal, parse_rules, to_wire

DECLARED = [
    {"prefix": "checkpoints/", "expire_days": 30},
    {"prefix": "tmp/", "expire_days": 2, "abort_uploads_days": 1},
    {"id": "old-versions", "noncurrent_days": 60},
]
RULES = (
    Rule("checkpoints", "checkpoints/", expire_days=30),
    Rule("old-versions", "", noncurrent_days=60),
    Rule("tmp", "tmp/", expire_days=2, abort_uploads_days=1),
)
IDS = {rule.id for rule in RULES}
R2_DEFAULT = {
    "ID": "Default Multipart Abort Rule",
    "Status": "Enabled",
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    "Filter": {"Prefix": ""},
}


def test_declared_rules_get_an_id_from_their_prefix() -> None:
    assert parse_rules(DECLARED) == RULES


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"prefix": "a/", "expire_days": 0}, "expire_days must be at least 1, not 0"),
        ({"prefix": "a/", "expire_days": 1.5}, "whole number"),
        ({"prefix": "a/", "expire_days": True}, "whole number"),
        ({"prefix": "a/"}, "says nothing to do"),
        ({"prefix": "/a", "expire_days": 1}, "without a leading '/'"),
        ({"prefix": "a/", "days": 1}, "unknown key 'days'"),
        ({"id": "Not An Id", "expire_days": 1}, "id must look like old-logs, not 'Not An Id'"),
        ("a/", "expected a mapping"),
    ],
)
def test_a_wrong_rule_is_named_with_what_is_wrong(rule: Any, words: str) -> None:
    with pytest.raises(UserError, match=f"lifecycle rule 2: .*{words}"):
        parse_rules([{"prefix": "x/", "expire_days": 1}, rule])


def test_two_rules_with_one_id_are_refused() -> None:
    with pytest.raises(UserError, match="'tmp' is there already"):
        parse_rules([{"prefix": "tmp/", "expire_days": 1}, {"prefix": "tmp", "expire_days": 2}])


@pytest.mark.parametrize("prefix", ["", "models/", "m", "mod", "models/you/", "attempts/", "c", "closed/", "events/"])
def test_a_rule_that_would_expire_results_is_refused_where_it_stands(prefix: str, tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.x.yaml"
    rules = [{"prefix": "tmp/", "expire_days": 1}, {"prefix": prefix, "expire_days": 9}]
    lines = "".join(f"    - {json.dumps(rule)}\n" for rule in rules)
    file.write_text(f"config:\n  trainyard:cloud: local\n  trainyard:lifecycle:\n{lines}")
    with pytest.raises(UserError, match=r"lifecycle rule 2: .* would delete .*; results never expire") as caught:
        settings_of("x", places_at(tmp_path), {})
    assert str(caught.value).startswith("Pulumi.x.yaml:5:") and "checkpoints/" in str(caught.value)
    with pytest.raises(UserError):
        declared_rules([{"prefix": prefix, "expire_days": 1}])


def test_rules_that_leave_results_alone_may_span_the_bucket() -> None:
    rules = [*DECLARED, {"id": "uploads", "abort_uploads_days": 2}, {"prefix": "modelsets/", "expire_days": 3}]
    assert len(declared_rules(rules)) == 5


def test_a_foreign_rule_that_would_expire_results_is_told(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.lifecycle = "rewrite"
    theirs = {"ID": "clean-all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    rules, through = {"Rules": [theirs, R2_DEFAULT]}, replace(through, lifecycle=True)
    s3(through).put_bucket_lifecycle_configuration(Bucket=through.bucket, LifecycleConfiguration=rules)
    found = lifecycle.put(through, RULES, pause=lambda _: None)
    assert found.dangerous == ("clean-all",) and "clean-all" in str([*found.notes])


rule_strategy = st.builds(
    Rule,
    id=st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,20}\Z"),
    prefix=st.sampled_from(["", "tmp/", "models/a b/ü"]),
    expire_days=st.none() | st.integers(1, 5000),
    noncurrent_days=st.none() | st.integers(1, 5000),
    abort_uploads_days=st.none() | st.integers(1, 5000),
)


@given(rule_strategy)
def test_a_rule_survives_the_wire(rule: Rule) -> None:
    assert from_wire(to_wire(rule)) == rule


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"Filter": {"Prefix": ""}}, {"Prefix": ""}),
        ({"Filter": {}}, {}),
        ({"Filter": {"Prefix": "a"}}, {"Prefix": "a"}),
        ({"Filter": {"And": {"Prefix": "a"}}}, {"Filter": {"Prefix": "a"}}),
        (
            {"Filter": {"And": {"Tags": [{"Key": "b", "Value": "1"}, {"Key": "a", "Value": "2"}]}}},
            {"Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "1"}]}}},
        ),
        ({"Filter": {"And": {"Tags": [{"Key": "a", "Value": "2"}]}}}, {"Filter": {"Tag": {"Key": "a", "Value": "2"}}}),
        ({"Expiration": {"Date": datetime(2027, 1, 1, tzinfo=UTC)}}, {"Expiration": {"Date": "2027-01-01T00:00:00Z"}}),
        ({"Expiration": {"Days": 1, "ExpiredObjectDeleteMarker": False}}, {"Expiration": {"Days": 1}}),
        (
            {"Transitions": [{"Days": 60, "StorageClass": "B"}, {"Days": 30, "StorageClass": "A"}]},
            {"Transitions": [{"Days": 30, "StorageClass": "A"}, {"Days": 60, "StorageClass": "B"}]},
        ),
    ],
)
def test_forms_that_stores_give_for_the_same_rule_are_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    base = {"ID": "x", "Status": "Enabled"}
    assert normal([{**base, **one}]) == normal([{**base, **other}])


def test_forms_that_mean_something_else_are_not_equal() -> None:
    base = {"ID": "x", "Status": "Enabled", "Expiration": {"Days": 1}}
    tagged = {"Filter": {"Tag": {"Key": "a", "Value": ""}}}
    for other in ({"Filter": {"Prefix": "a"}}, {"Status": "Disabled"}, {"Expiration": {"Days": 2}}, tagged):
        assert normal([base]) != normal([{**base, **other}])


def test_a_store_without_lifecycle_keeps_the_rules_as_an_object_and_says_so(settings: StoreSettings) -> None:
    assert lifecycle.get(settings) == lifecycle.Lifecycle("object", ())
    put = lifecycle.put(settings, RULES)
    assert put == lifecycle.get(settings) == lifecycle.Lifecycle("object", RULES)
    assert "each `invoke gc` does what they say" in str([*put.notes])
    assert not [*lifecycle.put(settings, (), before=IDS).notes] and lifecycle.get(settings).rules == ()


def test_a_store_that_answers_501_is_treated_as_one_without_lifecycle(settings: StoreSettings) -> None:
    hopeful = replace(settings, lifecycle=True)
    assert lifecycle.put(hopeful, RULES).kept_in == "object"
    assert lifecycle.get(hopeful).rules == RULES


@pytest.fixture
def rewriting(through: StoreSettings, proxy: LyingProxy) -> StoreSettings:
    """A store that has lifecycle rules and gives them back in another order and form."""
    proxy.lifecycle = "rewrite"
    return replace(through, lifecycle=True)


def test_our_rules_are_put_and_read_back_from_a_store_that_rewrites_them(rewriting: StoreSettings) -> None:
    assert lifecycle.put(rewriting, RULES) == lifecycle.get(rewriting) == lifecycle.Lifecycle("store", RULES)
    assert not [*lifecycle.get(rewriting).notes]


def test_unchanged_rules_are_not_written_again(rewriting: StoreSettings, proxy: LyingProxy) -> None:
    lifecycle.put(rewriting, RULES)
    lifecycle.put(rewriting, tuple(reversed(RULES)))
    assert proxy.count("PUT lifecycle") == 1


def test_rules_of_others_stay_when_ours_come_change_and_go(rewriting: StoreSettings) -> None:
    s3(rewriting).put_bucket_lifecycle_configuration(Bucket=rewriting.bucket, LifecycleConfiguration={"Rules": [R2_DEFAULT]})
    theirs = (R2_DEFAULT["ID"],)
    assert lifecycle.put(rewriting, RULES).foreign == theirs
    left = lifecycle.Lifecycle("store", RULES[:1], theirs)  # type: ignore[arg-type]
    assert lifecycle.put(rewriting, RULES[:1], before=IDS) == lifecycle.get(rewriting) == left
    assert lifecycle.put(rewriting, (), before=IDS).foreign == theirs
    [stays] = s3(rewriting).get_bucket_lifecycle_configuration(Bucket=rewriting.bucket)["Rules"]
    assert stays["ID"] == R2_DEFAULT["ID"]


def test_the_last_rule_of_all_is_taken_away_by_a_delete(rewriting: StoreSettings, proxy: LyingProxy) -> None:
    lifecycle.put(rewriting, RULES)
    lifecycle.put(rewriting, (), before=IDS)
    assert proxy.count("DELETE lifecycle") == 1 and lifecycle.get(rewriting).rules == ()


def _uploads(settings: StoreSettings) -> dict[str, int]:
    """Return the rules of a bucket that drop open uploads, with their days."""
    rules = s3(settings).get_bucket_lifecycle_configuration(Bucket=settings.bucket)["Rules"]
    return {r["ID"]: r["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for r in rules if "AbortIncompleteMultipartUpload" in r}


@pytest.mark.parametrize("kind", ["aws", "r2"])
def test_uploads_that_a_lost_machine_left_open_are_dropped_after_a_week_unless_a_rule_says_otherwise(
    rewriting: StoreSettings, proxy: LyingProxy, kind: Any
) -> None:
    amazon = replace(rewriting, kind=kind)
    for _ in range(2):
        assert lifecycle.put(amazon, RULES[:1]) == lifecycle.get(amazon) == lifecycle.Lifecycle("store", RULES[:1])
    assert _uploads(amazon) == {"trainyard-Default-uploads": 7} and proxy.count("PUT lifecycle") == 1
    lifecycle.put(amazon, RULES)
    assert _uploads(amazon) == {"trainyard-tmp": 1}, "a person's own rule says it"
    lifecycle.put(amazon, (), before=IDS)
    assert _uploads(amazon) == {"trainyard-Default-uploads": 7}
    lifecycle.put(amazon, (), before=IDS, default=False)
    assert _uploads(amazon) == {"trainyard-Default-uploads": 7}, "it stays as long as the bucket"
    s3(amazon).put_bucket_lifecycle_configuration(Bucket=amazon.bucket, LifecycleConfiguration={"Rules": [R2_DEFAULT]})
    lifecycle.put(amazon, ())
    assert _uploads(amazon) == {R2_DEFAULT["ID"]: 7}, "the store's own, or one of a person's in its console"


def test_a_store_of_an_unknown_kind_gets_no_rule_that_nobody_declared(rewriting: StoreSettings, proxy: LyingProxy) -> None:
    lifecycle.put(replace(rewriting, kind="s3"), ())
    assert proxy.count("PUT lifecycle") == 0


def test_a_key_that_may_declare_no_rules_is_enough_where_nobody_declared_one(
    rewriting: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(settings: StoreSettings, target: Any) -> None:
        raise StoreError("AccessDenied", code="AccessDenied")

    monkeypatch.setattr(lifecycle, "_write", refuse)
    amazon = replace(rewriting, kind="aws")
    assert lifecycle.put(amazon, ()) == lifecycle.Lifecycle("store", ())
    with pytest.raises(StoreError, match="AccessDenied"):
        lifecycle.put(amazon, RULES)


def test_a_server_that_ignores_the_sub_resource_never_sees_a_put_or_delete_of_it(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.lifecycle = "ignore"
    careless = replace(through, lifecycle=True)
    assert lifecycle.put(careless, RULES).kept_in == "object"
    assert lifecycle.put(careless, (), before=IDS).kept_in == "object"
    assert proxy.count("PUT lifecycle") == proxy.count("DELETE lifecycle") == 0


def test_a_store_that_keeps_something_else_is_an_error_that_names_the_rule(
    rewriting: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tests.storage.lying_proxy.rewritten", lambda text: rewritten(text).replace("<Days>30</Days>", "<Days>31</Days>"))
    with pytest.raises(StoreError, match="does not keep what was sent; it differs in: trainyard-checkpoints"):
        lifecycle.put(rewriting, RULES, pause=waited.append)
    assert sum(waited) >= 180


def test_a_rule_of_ours_that_somebody_switched_off_or_narrowed_is_not_among_those_that_stand(
    rewriting: StoreSettings, proxy: LyingProxy
) -> None:
    lifecycle.put(rewriting, RULES)
    declared = str(proxy.rules)
    for was, becomes in (("Enabled", "Disabled"), ("<Filter><Prefix>tmp/</Prefix></Filter>", NARROW), ("</NoncurrentDays>", MORE)):
        proxy.rules = declared.replace(was, becomes)
        current = lifecycle.get(rewriting)
        assert current.altered and len(current.rules) + len(current.altered) == len(RULES)
        assert not {rule.id for rule in current.rules} & set(current.altered)
        assert lifecycle.put(rewriting, RULES) == lifecycle.get(rewriting) == lifecycle.Lifecycle("store", RULES)


NARROW = "<Filter><And><Prefix>tmp/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter>"
MORE = "</NoncurrentDays><NewerNoncurrentVersions>3</NewerNoncurrentVersions>"


def test_a_store_that_drops_no_uploads_by_rule_gets_the_rest_and_that_is_told(through: StoreSettings, proxy: LyingProxy) -> None:
    proxy.lifecycle, minio = "no aborts", replace(through, kind="s3", lifecycle=True)
    only = Rule("uploads", "", abort_uploads_days=2)
    put = lifecycle.put(minio, (*RULES, only), pause=lambda _: None)
    assert put.left_out == ("tmp", "uploads") and {rule.id for rule in put.rules} == {"checkpoints", "old-versions", "tmp"}
    assert "does not drop open uploads" in str([*put.notes])
    assert lifecycle.put(minio, RULES, pause=lambda _: None).left_out == ("tmp",), "dropped in silence"
    assert lifecycle.put(minio, (only,), before=IDS).rules == ()


def test_a_key_that_may_not_look_at_rules_is_enough_where_none_is_declared(rewriting: StoreSettings, proxy: LyingProxy) -> None:
    proxy.faults.append(Fault("GET lifecycle", "fail", times=9, status=403))
    assert lifecycle.put(rewriting, ()).kept_in == lifecycle.get(rewriting).kept_in == "unseen"
    assert "is not known" in str([*lifecycle.get(rewriting).notes])
    with pytest.raises(StoreError, match="lacks s3:GetLifecycleConfiguration and s3:PutLifecycleConfiguration"):
        lifecycle.put(rewriting, RULES)


@pytest.mark.parametrize(
    "body",
    [
        b"[[",
        b"[]",
        b'{"rules": [5]}',
        b'{"rules": [{"id": "a", "prefix": ["a"], "expire_days": 1}]}',
        b'{"rules": [{"id": "a", "expire_days": -1}]}',
    ],
)
def test_an_object_of_the_bucket_that_holds_no_rules_is_told_with_what_to_do(body: bytes, settings: StoreSettings) -> None:
    kept = replace(settings, lifecycle=False)
    lifecycle.put(kept, RULES)
    assert lifecycle.get(kept).rules == RULES
    s3(kept).put_object(Bucket=kept.bucket, Key=lifecycle.OBJECT, Body=body)
    with pytest.raises(StoreError, match="this holds no lifecycle rules") as told:
        lifecycle.get(kept)
    assert "invoke up" in str(told.value.hint)
    lifecycle.put(kept, RULES)
    assert lifecycle.get(kept).rules == RULES, "as the hint says"
