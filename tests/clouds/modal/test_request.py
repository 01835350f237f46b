"""What is asked of Modal, and what its tags tell again; none of it needs the SDK."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.modal.prices import GPU_RATES, hourly, rate_of
from trainyard.clouds.modal.request import lifetime, pod_info, sandbox_name, sandbox_request
from trainyard.clouds.offers import own_prices
from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.errors import CloudRefused, UserError

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OFFER = Offer("A100-80GB", "modal", "A100-80GB", 2, 5.25)


def spec(hours: float = 2.0, logical: str = "pod", **changes: object) -> PodSpec:
    fence, lease = new_id(), new_id()
    made = PodSpec(
        name=str(PodName(fence, lease, logical, "0123abcd")), fence_id=fence, lease_id=lease, stop=NOW + timedelta(hours=hours - 0.5),
        end=NOW + timedelta(hours=hours), image="ghcr.io/me/trainer@sha256:00", command=("sh", "-c", "true"),
        secret_env={"TRAINYARD_SECRETS": "https://store/x?X-Amz-Signature=feed"},
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_tags_alone_tell_whose_a_sandbox_is_when_it_ends_and_what_it_costs() -> None:
    asked = spec()
    wanted = sandbox_request(asked, OFFER, NOW)
    told = pod_info("sb-1", wanted.tags, "running", "not finished")
    assert (told.name, told.fence_id, told.lease_id, told.stop, told.end) == (
        asked.name,
        asked.fence_id,
        asked.lease_id,
        asked.stop,
        asked.end,
    )
    assert (told.price_per_hour, told.gpu, told.gpu_count, told.created, told.end_unreadable) == (5.25, "A100-80GB", 2, NOW, False)
    assert (wanted.gpu, wanted.cpu, wanted.memory) == ("A100-80GB:2", (4.0, 4.0), 32768)


def test_a_sandbox_of_others_or_with_spoilt_tags_breaks_nothing() -> None:
    assert pod_info("sb-1", {"team": "x"}, "running", "").lease_id is None
    spoilt = {**sandbox_request(spec(), OFFER, NOW).tags, "ty-end": "tomorrow", "ty-price": "free", "ty-gpus": "many"}
    told = pod_info("sb-1", spoilt, "running", "")
    assert told.end is None and told.end_unreadable and told.price_per_hour is None and told.gpu_count == 0


def test_what_is_secret_is_in_no_tag_no_name_no_argument_and_no_plain_variable() -> None:
    wanted = asdict(sandbox_request(spec(registry="-u me -p token-of-mine ghcr.io"), OFFER, NOW))
    assert wanted.pop("login") == {"REGISTRY_USERNAME": "me", "REGISTRY_PASSWORD": "token-of-mine"}
    assert "X-Amz-Signature" in wanted.pop("secret_env")["TRAINYARD_SECRETS"]
    assert "X-Amz-Signature" not in json.dumps(wanted) and "token-of-mine" not in json.dumps(wanted)
    assert "token-of-mine" not in repr(sandbox_request(spec(registry="-u me -p token-of-mine ghcr.io"), OFFER, NOW))
    with pytest.raises(CloudRefused, match="registry"):
        sandbox_request(spec(registry="token-of-mine"), OFFER, NOW)


def test_modal_is_told_the_leases_end_and_a_lease_that_it_cannot_keep_is_refused() -> None:
    assert sandbox_request(spec(2), OFFER, NOW).timeout == 7200
    assert lifetime(NOW + timedelta(seconds=59.2), NOW) == 60, "never a second too early"
    assert lifetime(NOW - timedelta(hours=1), NOW) == 1
    with pytest.raises(CloudRefused, match="24 hours"):
        sandbox_request(spec(24.1), OFFER, NOW)


def test_a_name_that_is_too_long_keeps_its_ids_and_its_hash() -> None:
    asked = spec(logical="a-" * 20 + "a")
    short = sandbox_name(asked.name)
    assert len(short) <= 63 and short.startswith(f"ty-{asked.fence_id}-{asked.lease_id}-") and short.endswith("-0123abcd")
    assert sandbox_request(asked, OFFER, NOW).tags["ty-name"] == asked.name
    assert sandbox_name("ty-a-b-pod-0123abcd") == "ty-a-b-pod-0123abcd"


def test_a_price_is_the_gpus_with_its_cores_and_memory_and_what_is_not_known_is_none() -> None:
    h100, h200 = rate_of("H100"), rate_of("H200")
    assert h100 and h200 and rate_of("GTX 480") is None
    assert hourly(h100, 1, {}) == pytest.approx(0.001097 * 3600 + 0.667, abs=0.01)
    assert hourly(h100, 8, {}) == pytest.approx(8 * (hourly(h100, 1, {}) or 0), abs=0.001)
    assert hourly(h200, 1, {}) is None and hourly(h200, 1, {"H200": 4.54}) == pytest.approx(4.54 + 0.667, abs=0.01)
    assert len({rate.id for rate in GPU_RATES}) == len(GPU_RATES)


@pytest.mark.parametrize("text", ["H200", "H200=cheap", "H200=-1", "GTX 480=1", "H200=nan"])
def test_a_price_that_cannot_be_read_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(UserError, match="MODAL_PRICES") as raised:
        own_prices({"MODAL_PRICES": text}, "MODAL_PRICES", [rate.id for rate in GPU_RATES])
    assert "B200=4.54" in str(raised.value.hint)
