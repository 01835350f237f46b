"""What a person is told once the pod is proven: above all whether it can be ended from inside."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainyard.runs.life.start import tell_of_watchdog
from trainyard.runs.records.parts import RunPod


def told(watchdog: object, cloud: str = "runpod") -> tuple[list[str], RunPod]:
    said: list[str] = []
    record = SimpleNamespace(environment=cloud, cloud=cloud, pod=RunPod(pod_id="p1", end="2026-11-24T03:00:00Z"))
    adapter = SimpleNamespace(
        capabilities=SimpleNamespace(deadline=cloud == "modal", self_terminate=cloud not in ("ionet",), ssh=cloud == "runpod")
    )
    context = SimpleNamespace(ui=SimpleNamespace(warn=said.append), cloud_of=lambda _: adapter)
    tell_of_watchdog(context, record, watchdog)  # type: ignore[arg-type]
    return said, record.pod


def test_a_watchdog_whose_key_reaches_its_pod_is_worth_no_word() -> None:
    said, kept = told({"armed": True, "key_sees_pod": True, "proof": "RunPod REST sees this pod"})
    assert said == [] and kept.ends_itself is True


@pytest.mark.parametrize("watchdog", [{"armed": True, "key_sees_pod": False, "proof": "RunPod REST: HTTP 401"}, {"armed": True}, None])
def test_a_pod_whose_own_key_is_refused_is_told_with_its_end_and_the_command(watchdog: object) -> None:
    said, kept = told(watchdog)
    assert (
        "only from outside can pod p1 be ended" in said[0] and "2026-11-24T03:00:00Z" in said[0] and "invoke reap --stack runpod" in said[0]
    )
    assert kept.ends_itself is False and ("401" in said[0]) is ("401" in str(watchdog))


def test_a_pod_without_any_way_of_its_own_is_worth_no_warning_where_its_cloud_ends_it() -> None:
    watchdog = {"armed": True, "key_sees_pod": False, "self_terminate": False, "proof": "no way to end this pod from inside"}
    said, kept = told(watchdog, "modal")
    assert said == [] and kept.ends_itself is None and kept.ends_itself_proof == "Modal itself ends it at its lease's end"
    said, kept = told(watchdog, "replicate")
    assert said == [] and kept.ends_itself is None and kept.ends_itself_proof == "it ends with its command, by its lease's end"
    assert told(watchdog, "ionet")[0] and told({**watchdog, "self_terminate": True}, "modal")[0], "any other is warned of"
