"""What costs money, what was charged, why a pod does not boot, and a lease that is moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.clouds.runpod.scripted import Say
from tests.clouds.vast.conftest import END, KEY, NAME, STOP, Bench, one, page, refused, row
from trainyard.clouds.vast import VastCloud
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError
from trainyard.secret import Secret

Serve = Callable[..., Bench]
DONE = Say(200, {"success": True})
STOPPED = {"actual_status": "exited", "cur_state": "stopped", "next_state": "stopped", "intended_status": "stopped"}


def charge(source: str, amount: object) -> dict[str, object]:
    return {"type": "instance", "source": source, "amount": amount, "items": []}


def test_a_stopped_instance_costs_its_disk_and_a_foreign_one_is_told(serve: Serve) -> None:
    volume = {"id": 5, "label": "trainyard-cache"}
    rows = page(row(), row(id=78, label="theirs", extra_env=[], **STOPPED))
    items = serve(rows, Say(200, {"volumes": [volume]})).cloud.costs()
    assert [(item.kind, item.id, item.per_hour, item.ours) for item in items] == [
        ("pod", "77", 0.42, True), ("stopped pod", "78", 0.002, False), ("volume", "5", None, True),
    ]  # fmt: skip


def test_the_bill_is_read_over_its_pages_and_one_instances_part_by_its_number(serve: Serve) -> None:
    pages = [
        Say(200, {"success": True, "results": [charge("instance-77", 1.5), charge("instance-777", 4)], "next_token": "t"}),
        Say(200, {"success": True, "results": [charge("instance-77", 0.25), charge("instance-9", "x")], "next_token": None}),
    ]
    bench = serve(*pages)
    assert bench.cloud.billed("77") == 1.75
    assert "after_token=t" in bench.server.asked[1][1] and "select_filters=" in bench.server.asked[0][1]
    account = serve(Say(200, {"id": 1, "balance": 12.5}), page(row()), *pages).cloud.account()
    assert (account.balance, account.per_hour, account.billed) == (12.5, 0.42, 5.75)


@pytest.mark.parametrize(
    "answer", [refused(404, "auth_error"), refused(403, "auth_error", "This action requires login."), Say(200, {"success": True})]
)
def test_a_bill_that_is_not_shown_is_an_error_and_not_nothing(serve: Serve, answer: Say) -> None:
    with pytest.raises(CloudError):
        serve(answer).cloud.billed("77")
    with pytest.raises(CloudError):
        serve(answer).cloud.account()


def test_a_lease_is_moved_by_the_label_which_restarts_nothing(serve: Serve) -> None:
    bench = serve(one(), DONE)
    bench.cloud.change_markers("77", STOP + timedelta(hours=2), END + timedelta(hours=2))
    assert bench.cloud.capabilities.change_markers
    assert bench.asked == ["GET /api/v0/instances/77/", "PUT /api/v0/instances/77/"]
    assert json.loads(bench.server.asked[1][3]) == {"label": f"{NAME} 2026-12-01T04:30:00Z 2026-12-01T05:00:00Z"}


@pytest.mark.parametrize(
    "answers",
    [[Say(200, {"instances": None})], [one(label="theirs", extra_env=[])], [one(), refused(404, "not_found")], [one(), Say(200, {})]],
)
def test_a_lease_that_cannot_be_moved_is_said(serve: Serve, answers: list[Say]) -> None:
    with pytest.raises(CloudError):
        serve(*answers).cloud.change_markers("77", STOP, END)


def test_a_label_that_was_turned_away_is_put_again(serve: Serve) -> None:
    bench = serve(one(), Say(429, raw=b"API requests too frequent"), Say(503), DONE)
    bench.cloud.change_markers("77", STOP, END)
    assert bench.asked.count("PUT /api/v0/instances/77/") == 3


def test_a_failed_boot_is_told_by_the_status_or_by_logs_that_arrive_later_and_go_there_without_the_key(serve: Serve) -> None:
    bench = serve(one(actual_status="created", status_msg="Error response from daemon: manifest unknown: manifest unknown"))
    assert "cannot be pulled" in (bench.cloud.boot_problem("77") or "")
    store = serve(Say(404), Say(403), Say(200, raw=b"a\npull access denied for x\n"))
    bench = serve(one(actual_status="loading"), Say(200, {"success": True, "result_url": store.server.url}))
    assert "pull access denied" in (bench.cloud.boot_problem("77") or "")
    assert len(store.asked) >= 3 and all("Authorization" not in headers for _, _, headers, _ in store.server.asked)
    assert json.loads(bench.server.asked[1][3])["daemon_logs"] == "true"


def test_a_container_that_could_not_be_created_is_a_failed_boot(serve: Serve) -> None:
    message = "OCI runtime create failed: container_linux.go:380: starting container process caused: exec: no such file"
    bench = serve(one(actual_status="created", status_msg=message))
    assert "OCI runtime create failed" in (bench.cloud.boot_problem("77") or "")


def test_logs_that_never_arrive_are_no_answer_and_a_pod_that_is_gone_has_no_problem(serve: Serve) -> None:
    store = serve(Say(404))
    bench = serve(one(), Say(200, {"success": True, "result_url": store.server.url}))
    with pytest.raises(CloudUnknown, match="does not arrive"):
        bench.cloud.boot_problem("77")
    assert serve(Say(200, {"instances": None})).cloud.boot_problem("77") is None


@pytest.mark.parametrize("where", ["http://198.51.100.7/log", "ftp://x/log", None, 5])
def test_a_log_is_fetched_from_no_address_that_is_open_to_others(serve: Serve, where: object) -> None:
    bench = serve(one(), Say(200, {"success": True, "result_url": where}))
    with pytest.raises(CloudError):
        bench.cloud.boot_problem("77")


def test_reads_of_one_endpoint_keep_the_interval_that_its_specification_says(serve: Serve) -> None:
    bench = serve(one(), one(), page(row()), page(row()))
    bench.cloud.get("77")
    bench.cloud.get("77")
    bench.cloud.list()
    bench.cloud.list()
    assert bench.pace.slept == [2.0, 1.0]


def test_a_rehearsals_key_is_simulated_and_another_address_is_said(serve: Serve) -> None:
    assert VastCloud(Secret("rehearsal_1")).simulated and not VastCloud(Secret(KEY)).simulated
    assert VastCloud(Secret(KEY)).address is None and serve(one()).cloud.address
    with pytest.raises(UserError, match="https"):
        VastCloud.from_env({"VAST_API_KEY": KEY, "VAST_URL": "http://198.51.100.7"})
    with pytest.raises(UserError, match="VAST_API_KEY is not set"):
        VastCloud.from_env({})


def test_its_clock_is_that_of_its_answers(serve: Serve) -> None:
    bench = serve(Say(200, {"success": True, "instances": [], "next_token": None}, headers={"Date": "Tue, 01 Dec 2026 03:00:00 GMT"}))
    now = bench.cloud.now()
    assert abs((now - END).total_seconds()) < 60 and bench.asked == ["GET /api/v1/instances/"]


def test_a_refused_key_is_refused_everywhere(serve: Serve) -> None:
    bench = serve(refused(401, "auth_error", "Invalid user key"))
    for ask in (bench.cloud.list, bench.cloud.costs, bench.cloud.account, lambda: bench.cloud.terminate("77")):
        with pytest.raises(CloudRefused, match="Invalid user key"):
            ask()
