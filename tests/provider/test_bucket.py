"""Bucket, its rules and the closed fence, on a real S3 server."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.provider.conftest import Bench, pod_inputs
from tests.storage.conftest import binary, proxy, running_proxy, server, settings, store_places, through
from tests.storage.lying_proxy import Fault, LyingProxy
from trainyard.config import Places
from trainyard.errors import RefusedError, UserError
from trainyard.leases import environmentid, fence, intents
from trainyard.leases.store import settings_of
from trainyard.provider.bucket import BUCKET
from trainyard.provider.handler import CheckFailed, diff
from trainyard.provider.lease import LEASE
from trainyard.provider.lifecycle import BUCKET_LIFECYCLE
from trainyard.provider.pod import POD
from trainyard.provider.values import UNKNOWN, Properties, Tree
from trainyard.storage import lifecycle
from trainyard.storage.bucket import listing
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.rules import declared_rules

__all__ = ["binary", "proxy", "running_proxy", "server", "settings", "store_places", "through"]


@pytest.fixture
def yard(bench: Bench, store_places: Places, binary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """The bench with a real local store."""
    monkeypatch.setenv("TRAINYARD_VERSITYGW", str(binary))
    places = dataclasses.replace(bench.world.places, outside=store_places.outside)
    bench.world = dataclasses.replace(bench.world, places=places)
    yield bench


def named(yard: Bench, **more: object) -> Properties:
    return yard.checked(BUCKET, {"bucket": f"t-{secrets.token_hex(5)}", "store": "local", **more})  # type: ignore[dict-item]


def create(yard: Bench, inputs: Properties) -> tuple[str, Properties]:
    return BUCKET.create(yard.call("results", "Bucket"), inputs)


# Names


def test_the_default_name_is_made_once_per_stack_and_found_again_by_another_checkout(bench: Bench) -> None:
    first = bench.checked(BUCKET, {"store": "local"})["name"]
    assert str(first).startswith("trainyard-")
    bench.world = dataclasses.replace(bench.world, places=dataclasses.replace(bench.world.places, home=bench.world.places.root / "clone"))
    assert bench.checked(BUCKET, {"store": "local"})["name"] == first
    assert bench.checked(BUCKET, {"store": "local"}, stack="other")["name"] != first


def test_the_state_s_name_wins_over_a_lost_settings_folder_and_the_setting_over_both(bench: Bench) -> None:
    old: Properties = {"store": "local", "name": "trainyard-00c0ffee"}
    assert bench.checked(BUCKET, {"store": "local"}, old)["name"] == "trainyard-00c0ffee"
    assert bench.checked(BUCKET, {"store": "local", "env_id": "12345678"}, old)["name"] == "trainyard-12345678"
    assert bench.checked(BUCKET, {"store": "local", "bucket": "mine"}, old)["name"] == "mine"


def test_an_env_id_of_digits_alone_survives_yaml(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in ("01234567", "1234e567"):
        monkeypatch.setattr(secrets, "token_hex", lambda size, made=made: made)
        for _ in range(2):
            assert bench.checked(BUCKET, {"store": "local"}, stack=made)["name"] == f"trainyard-{made}"


def test_a_known_environment_id_is_found_and_none_is_made_by_looking(bench: Bench) -> None:
    places = bench.world.places
    assert environmentid.known_environment_id(places, "dev") is None
    assert not places.settings.exists()
    name = bench.checked(BUCKET, {"store": "local"})["name"]
    assert name == environmentid.default_bucket(str(environmentid.known_environment_id(places, "dev")))
    (places.settings / "environments.yaml").write_text("dev: My Env\n")
    with pytest.raises(UserError, match="no environment id"):
        environmentid.known_environment_id(places, "dev")


def test_an_impossible_env_id_is_an_error(bench: Bench) -> None:
    with pytest.raises(UserError, match="8 hex"):
        bench.checked(BUCKET, {"store": "local", "env_id": "My Env"})


def test_without_credentials_there_is_no_bucket_which_is_said_aloud(bench: Bench) -> None:
    inputs = bench.checked(BUCKET, {})
    assert inputs["name"] == "none"
    _, outputs = create(bench, inputs)
    assert any("no S3 credentials" in text for text in bench.messages)
    assert outputs["name"] == "none"
    assert not diff(BUCKET, bench.call("results", "Bucket"), outputs, inputs, inputs).changes
    BUCKET.delete(bench.call("results", "Bucket"), "none", outputs, inputs)
    rules = {"bucket": "none", "store": "none", "rules": [{"prefix": "tmp/", "expire_days": 1}]}
    assert BUCKET_LIFECYCLE.create(bench.call("results"), rules)[1] == {"rules": [], "kept_in": "none", "left_out": []}  # type: ignore[arg-type]


def test_a_preview_says_what_up_would_say_where_no_store_s_keys_are_set(bench: Bench) -> None:
    inputs = bench.checked(BUCKET, {})
    assert BUCKET.foresee(bench.call("results", "Bucket"), inputs)["name"] == "none"
    assert any("a cloud without SSH can run nothing" in text for text in bench.messages)
    rules = {"bucket": "none", "store": "none", "rules": [{"prefix": "tmp/", "expire_days": 1}]}
    assert BUCKET_LIFECYCLE.foresee(bench.call("results"), rules) == {"rules": [], "kept_in": "none", "left_out": []}  # type: ignore[arg-type]
    assert any("rules are not kept anywhere" in text for text in bench.messages)
    assert BUCKET.foresee(bench.call("results", "Bucket"), bench.checked(BUCKET, {"bucket": "mine"})) == {}


def test_credentials_that_appear_give_the_environment_its_bucket(bench: Bench) -> None:
    without = bench.checked(BUCKET, {})
    _, outputs = create(bench, without)
    bench.world.env.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b")  # type: ignore[attr-defined]
    now = bench.checked(BUCKET, {}, without)
    assert str(now["name"]).startswith("trainyard-")
    assert diff(BUCKET, bench.call("results", "Bucket"), outputs, without, now).changes == {"name": "update-replace"}


def test_credentials_that_vanish_never_turn_a_bucket_into_none(bench: Bench) -> None:
    assert bench.checked(BUCKET, {}, {"name": "trainyard-00c0ffee"})["name"] == "trainyard-00c0ffee"


def test_a_named_bucket_without_credentials_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match="no credentials for bucket 'mine'"):
        create(bench, bench.checked(BUCKET, {"bucket": "mine"}))


def test_a_bucket_named_by_the_credentials_is_taken(bench: Bench) -> None:
    bench.world.env.update(  # type: ignore[attr-defined]
        RUNPOD_S3_ACCESS_KEY="a", RUNPOD_S3_SECRET_KEY="b", RUNPOD_S3_ENDPOINT="https://s3api-eu-ro-1.runpod.io/", RUNPOD_S3_BUCKET="vol1"
    )
    assert bench.checked(BUCKET, {})["name"] == "vol1"


# The real server


def test_create_makes_a_bucket_and_a_second_create_adopts_it_with_its_objects(yard: Bench) -> None:
    inputs = named(yard)
    bucket, outputs = create(yard, inputs)
    assert (outputs["name"], outputs["store"], outputs["adopted"]) == (bucket, "local", False)
    settings = settings_of(yard.world, "local", bucket)
    assert settings is not None
    s3(settings).put_object(Bucket=bucket, Key="models/x", Body=b"12345")
    BUCKET.delete(yard.call("results", "Bucket"), bucket, outputs, inputs)
    assert f"bucket {bucket} stays, with 1 objects (5 B)" in yard.messages[-1]
    assert create(yard, inputs)[1]["adopted"] is True
    assert s3(settings).get_object(Bucket=bucket, Key="models/x")["Body"].read() == b"12345"


def test_read_says_gone_only_for_a_bucket_that_is_not_there(yard: Bench) -> None:
    inputs = named(yard)
    call = yard.call("results", "Bucket")
    bucket, outputs = create(yard, inputs)
    assert BUCKET.read(call, bucket, outputs, inputs).properties == outputs
    settings = settings_of(yard.world, "local", bucket)
    assert settings is not None
    s3(settings).delete_bucket(Bucket=bucket)
    assert BUCKET.read(call, bucket, outputs, inputs).id == ""


def test_rules_are_kept_shown_changed_and_taken_away(yard: Bench) -> None:
    bucket, _ = create(yard, named(yard))
    call = yard.call("results", "BucketLifecycle")
    rules = [{"id": "tmp", "prefix": "tmp/", "expire_days": 3}]
    inputs = yard.checked(BUCKET_LIFECYCLE, {"bucket": bucket, "store": "local", "rules": rules})  # type: ignore[dict-item]
    id, outputs = BUCKET_LIFECYCLE.create(call, inputs)
    assert outputs == {"rules": [{"id": "tmp", "prefix": "tmp/", "expire_days": 3}], "kept_in": "object", "left_out": []}
    assert any("each `invoke gc` does what they say" in text for text in yard.messages)
    assert BUCKET_LIFECYCLE.read(call, id, outputs, inputs).inputs == inputs
    news: Properties = {**inputs, "rules": [{"id": "tmp", "prefix": "tmp/", "expire_days": 4}]}
    assert diff(BUCKET_LIFECYCLE, call, outputs, inputs, news).changes == {"rules": "update"}
    BUCKET_LIFECYCLE.update(call, id, outputs, inputs, news)
    drifted = BUCKET_LIFECYCLE.read(call, id, outputs, inputs)
    assert drifted.inputs["rules"] == news["rules"], "what stands in the store becomes the old input, so that up puts it right"
    BUCKET_LIFECYCLE.delete(call, id, outputs, inputs)
    assert BUCKET_LIFECYCLE.read(call, id, outputs, inputs).properties["rules"] == []


def test_rules_kept_in_the_bucket_that_are_gone_or_damaged_are_seen_by_a_preview_and_written_anew(yard: Bench) -> None:
    bucket, _ = create(yard, named(yard))
    call = yard.call("results", "BucketLifecycle")
    rules = [{"id": "tmp", "prefix": "tmp/", "expire_days": 3}]
    inputs = yard.checked(BUCKET_LIFECYCLE, {"bucket": bucket, "store": "local", "rules": rules})  # type: ignore[dict-item]
    id, outputs = BUCKET_LIFECYCLE.create(call, inputs)
    store = settings_of(yard.world, "local", bucket)
    assert store is not None
    assert not diff(BUCKET_LIFECYCLE, call, outputs, inputs, inputs).changes
    for body, words in ((None, "are not as declared any more: tmp"), (b"{", "holds no lifecycle rules"), (b'{"rules": 3}', "holds no")):
        if body is None:
            s3(store).delete_object(Bucket=bucket, Key=lifecycle.OBJECT)
        else:
            s3(store).put_object(Bucket=bucket, Key=lifecycle.OBJECT, Body=body)
        assert diff(BUCKET_LIFECYCLE, call, outputs, inputs, inputs).changes == {"rules": "update"}, body
        assert words in yard.messages[-1]
        BUCKET_LIFECYCLE.update(call, id, outputs, inputs, inputs)
        assert not diff(BUCKET_LIFECYCLE, call, outputs, inputs, inputs).changes, body


def test_a_preview_without_refresh_sees_a_rule_that_somebody_switched_off_or_changed(
    yard: Bench, through: StoreSettings, proxy: LyingProxy
) -> None:
    proxy.lifecycle = "rewrite"
    store = dataclasses.replace(through, kind="s3", lifecycle=True)
    keys = {"AWS_ACCESS_KEY_ID": store.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": store.secret_key.reveal()}
    yard.world = dataclasses.replace(yard.world, env={**yard.world.env, **keys, "AWS_ENDPOINT_URL": str(store.endpoint)})
    call = yard.call("results", "BucketLifecycle", preview=True)
    rules = [{"id": "tmp", "prefix": "tmp/", "expire_days": 3}, {"id": "logs", "prefix": "logs/", "expire_days": 9}]
    inputs = yard.checked(BUCKET_LIFECYCLE, {"bucket": store.bucket, "store": "s3", "rules": rules})  # type: ignore[dict-item]
    id, outputs = BUCKET_LIFECYCLE.create(dataclasses.replace(call, preview=False), inputs)
    assert outputs["kept_in"] == "store" and not diff(BUCKET_LIFECYCLE, call, outputs, inputs, inputs).changes
    declared = proxy.rules
    for was, becomes in (("Enabled", "Disabled"), ("tmp/", "tmp/old/"), ("<Days>3<", "<Days>4<"), (declared, None)):
        proxy.rules = None if becomes is None or declared is None else declared.replace(str(was), becomes)
        assert diff(BUCKET_LIFECYCLE, call, outputs, inputs, inputs).changes == {"rules": "update"}, (was, becomes)
        assert "are not as declared any more" in yard.messages[-1] and "tmp" in yard.messages[-1]
        seen = BUCKET_LIFECYCLE.read(call, id, outputs, inputs)
        assert seen.inputs["rules"] != inputs["rules"], "a refresh sees it, too"
    BUCKET_LIFECYCLE.update(dataclasses.replace(call, preview=False), id, outputs, inputs, inputs)
    assert proxy.rules == declared
    proxy.faults.append(Fault("GET lifecycle", "drop", times=99))
    assert not diff(BUCKET_LIFECYCLE, call, outputs, inputs, inputs).changes, "a store that does not answer is no change"
    assert "could not be looked at" in yard.messages[-1]


@pytest.mark.parametrize("kept_in", ["object", "store"])
def test_two_stacks_that_share_a_bucket_take_no_rules_from_each_other(
    kept_in: str, yard: Bench, through: StoreSettings, proxy: LyingProxy
) -> None:
    proxy.lifecycle = "rewrite" if kept_in == "store" else proxy.lifecycle
    store = dataclasses.replace(through, kind="s3", lifecycle=kept_in == "store")
    keys = {"AWS_ACCESS_KEY_ID": store.access_key.reveal(), "AWS_SECRET_ACCESS_KEY": store.secret_key.reveal()}
    yard.world = dataclasses.replace(yard.world, env={**yard.world.env, **keys, "AWS_ENDPOINT_URL": str(store.endpoint)})
    call, beside = (yard.call("results", "BucketLifecycle", stack=stack) for stack in ("dev", "other"))
    tmp, data, logs = rule("tmp", 3), rule("data", 30), rule("logs", 9)

    def inputs(fence: str | None, *rules: Tree) -> Properties:
        return {"bucket": store.bucket, "store": "s3", "rules": [*rules], **({"fence_id": fence} if fence else {})}

    def stand() -> set[tuple[str, int | None]]:
        return {(one.id, one.expire_days) for one in lifecycle.get(store).rules}

    # A stack of before there was a record of who declares what: its rules stand under the same ids and are nobody's.
    lifecycle.put(store, declared_rules([tmp, data, rule("old", 5)]))  # type: ignore[list-item]
    old, new = inputs(None, tmp, data), inputs("f" * 10, tmp, data)
    id = store.bucket
    outputs: Properties = {"rules": [data, tmp], "kept_in": kept_in, "left_out": []}
    other, theirs = BUCKET_LIFECYCLE.create(beside, inputs("e" * 10, tmp, logs))
    assert stand() == {("tmp", 3), ("data", 30), ("logs", 9), ("old", 5)}
    assert diff(BUCKET_LIFECYCLE, call, outputs, old, new).changes == {"fence_id": "update"}
    before = proxy.count("PUT lifecycle"), proxy.rules
    outputs = BUCKET_LIFECYCLE.update(call, id, outputs, old, new)
    assert (proxy.count("PUT lifecycle"), proxy.rules) == before, "what stands is not touched by going on record"
    for seen, declared in ((outputs, new), (theirs, inputs("e" * 10, tmp, logs))):
        whose = call if seen is outputs else beside
        assert not diff(BUCKET_LIFECYCLE, whose, seen, declared, declared).changes
        assert BUCKET_LIFECYCLE.read(whose, id, seen, declared).inputs == declared

    BUCKET_LIFECYCLE.delete(beside, other, theirs, inputs("e" * 10, tmp, logs))
    assert stand() == {("tmp", 3), ("data", 30), ("old", 5)}
    assert "stay, for stack 'dev' declares them: tmp" in yard.messages[-1]
    assert not diff(BUCKET_LIFECYCLE, call, outputs, new, new).changes

    changed = inputs("e" * 10, rule("tmp", 1))
    other, theirs = BUCKET_LIFECYCLE.create(beside, changed)
    assert "declares other lifecycle rules under the same id" in yard.messages[-1 if kept_in == "store" else -2]
    assert ("tmp", 1) in stand()
    BUCKET_LIFECYCLE.update(beside, other, theirs, changed, inputs("e" * 10))
    assert stand() == {("tmp", 3), ("data", 30), ("old", 5)}, "what the other says of it stands again"
    BUCKET_LIFECYCLE.delete(call, id, outputs, new)
    assert stand() == {("old", 5)}
    assert [item.key for item in listing(store, "lifecycle/declared/")] == []


def rule(name: str, days: int) -> Tree:
    """Return a rule as an input."""
    return {"id": name, "prefix": f"{name}/", "expire_days": days}


@pytest.mark.parametrize("rule", [{"prefix": "/tmp", "expire_days": 1}, {"prefix": "tmp/"}, {"expire": 3}, "tmp"])
def test_a_rule_that_no_store_could_keep_is_refused_in_check(bench: Bench, rule: object) -> None:
    with pytest.raises(CheckFailed, match="rule 1"):
        bench.checked(BUCKET_LIFECYCLE, {"bucket": "b", "rules": [rule]})  # type: ignore[list-item]


def test_rules_not_known_yet_pass_check(bench: Bench) -> None:
    bench.checked(BUCKET_LIFECYCLE, {"bucket": UNKNOWN, "rules": [{"prefix": UNKNOWN, "expire_days": 1}]})


def test_a_fence_closed_on_one_machine_stops_creates_on_every_other_that_shares_the_bucket(yard: Bench) -> None:
    bucket, _ = create(yard, named(yard))
    inputs = yard.checked(LEASE, {"cloud": "model", "bucket": bucket, "store": "local"})
    fence_id, outputs = LEASE.create(yard.call("fence", "Lease"), inputs)
    pod = yard.checked(POD, pod_inputs(fence_id=fence_id, bucket=bucket, store="local"))
    elsewhere = dataclasses.replace(yard.world, places=dataclasses.replace(yard.world.places, home=yard.world.places.root / "elsewhere"))
    intents.make_folder(elsewhere.places.intents, "1" * 10)
    assert not fence.is_closed_in_bucket(elsewhere, fence_id, "local", bucket)
    LEASE.delete(yard.call("fence", "Lease"), fence_id, outputs, inputs)
    assert fence.is_closed_in_bucket(elsewhere, fence_id, "local", bucket)
    with pytest.raises(RefusedError, match=f"environment {fence_id} was closed"):
        POD.create(dataclasses.replace(yard.call(), world=elsewhere), pod)
    assert yard.cloud.calls("create") == 0
