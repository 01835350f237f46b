"""What Vast.ai's answers mean: states, addresses, marks, absence, lists over pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from tests.clouds.runpod.scripted import Say
from tests.clouds.vast.conftest import END, FENCE, LEASE, NAME, STOP, Bench, one, page, refused, row
from trainyard.clouds.protocol import SshAddress
from trainyard.clouds.vast.answers import pod_info
from trainyard.errors import CloudError, CloudRefused, CloudUnknown

Serve = Callable[..., Bench]
STOPPED = {"cur_state": "stopped", "next_state": "stopped", "intended_status": "stopped"}


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"actual_status": None}, "accepted", "being provisioned"),
        ({"actual_status": "created"}, "starting", "created"),
        ({"actual_status": "loading"}, "starting", "loading"),
        ({"actual_status": "running"}, "running", "running"),
        ({"actual_status": "exited"}, "exited", "exited"),
        ({"actual_status": "stopped"}, "exited", "stopped"),
        ({"actual_status": "offline"}, "unknown", "offline"),
        ({"actual_status": "unknown"}, "unknown", "unknown"),
        ({"actual_status": "hibernating"}, "unknown", "hibernating"),
        ({"actual_status": "exited", "is_bid": True, **STOPPED}, "exited", "outbid"),
        ({"actual_status": "running", "is_bid": True, **STOPPED}, "exited", "outbid"),
        ({"actual_status": "exited", "is_bid": False, **STOPPED}, "exited", "stopped"),
        ({"actual_status": "loading", "is_bid": True, "intended_status": "stopped"}, "starting", "loading"),
    ],
)
def test_each_state_has_its_meaning_and_an_outbid_instance_is_told_apart(changes: dict[str, object], status: str, word: str) -> None:
    info = pod_info(row(**changes))
    assert (info.status, info.raw_status) == (status, word)
    assert info.ssh is None or status == "running"


def test_the_direct_address_is_taken_without_its_stray_spaces() -> None:
    assert pod_info(row()).ssh == SshAddress("203.0.113.9", 20000)


@pytest.mark.parametrize("ports", [None, {}, {"8888/tcp": [{"HostPort": "1"}]}, {"22/tcp": []}, {"22/tcp": [{"HostPort": None}]}])
def test_a_port_that_is_not_there_yet_is_waited_for_and_the_proxy_is_for_machines_without_ports(ports: object) -> None:
    assert pod_info(row(ports=ports)).ssh is None
    assert pod_info(row(ports=ports, direct_port_count=0)).ssh == SshAddress("ssh5.vast.ai", 10600)


def test_stop_and_end_are_those_of_the_label_for_variables_cannot_be_changed() -> None:
    info = pod_info(row())
    assert (info.name, info.fence_id, info.lease_id, info.stop, info.end) == (NAME, FENCE, LEASE, STOP, END)
    assert info.price_per_hour == 0.42 and info.created == datetime.fromtimestamp(1796000000.5, UTC)


def test_a_label_alone_tells_everything_and_so_do_the_variables_alone() -> None:
    by_label = pod_info(row(extra_env=[]))
    assert (by_label.name, by_label.lease_id, by_label.end) == (NAME, LEASE, END)
    env = [
        ["TRAINYARD_FENCE_ID", FENCE],
        ["TRAINYARD_LEASE_ID", LEASE],
        ["TRAINYARD_END", "2026-12-01T01:00:00Z"],
        ["TRAINYARD_POD_NAME", NAME],
    ]
    for label in ("renamed by hand", None, NAME.replace(LEASE, "c" * 10) + " - 2099-01-01T00:00:00Z"):
        by_env = pod_info(row(label=label, extra_env=env))
        assert (by_env.name, by_env.lease_id, by_env.end) == (NAME, LEASE, datetime(2026, 12, 1, 1, tzinfo=UTC)), label


def test_a_pod_of_ours_whose_end_cannot_be_read_is_told_as_such_and_a_foreign_one_is_not() -> None:
    unread = pod_info(row(label=f"{NAME} - tomorrow", extra_env=[]))
    assert unread.end_unreadable and unread.lease_id == LEASE
    foreign = pod_info(row(label="my training", extra_env=[["A", "b"]]))
    assert foreign.lease_id is None and not foreign.end_unreadable and foreign.name == "my training"


@pytest.mark.parametrize("env", [None, {}, {"A": "b"}, ["A=b"], [["A"]], "x"])
def test_variables_in_another_form_do_no_harm(env: object) -> None:
    assert pod_info(row(extra_env=env)).lease_id == LEASE


@pytest.mark.parametrize("answer", [Say(200, {"instances": None}), refused(404, "no_such_instance"), refused(404, "not_found")])
def test_a_pod_is_gone_on_vasts_own_word(serve: Serve, answer: Say) -> None:
    assert serve(answer).cloud.get("77") is None


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(404, "auth_error", "Invalid user key"), CloudRefused),
        (refused(401, "auth_error"), CloudRefused),
        (Say(404, raw=b"<html>404</html>"), CloudUnknown),
        (Say(200, {}), CloudUnknown),
        (Say(200, []), CloudUnknown),
        (Say(200, raw=b""), CloudUnknown),
        (Say(200, {"instances": None, "success": False, "error": "try_later"}), CloudUnknown),
        (Say(200, {"instances": row(id=78)}), CloudUnknown),
        (Say(200, {"instances": [row()]}), CloudUnknown),
    ],
)
def test_nothing_else_says_that_a_pod_is_gone(serve: Serve, answer: Say, error: type[CloudError]) -> None:
    with pytest.raises(CloudError) as raised:
        serve(answer).cloud.get("77")
    assert type(raised.value) is error


def test_an_instance_that_alone_shows_numbers_of_ports_is_looked_up_in_the_list(serve: Serve) -> None:
    bench = serve(one(ports=[22, 8080]), page(row(actual_status="a new word")))
    info = bench.cloud.get("77")
    assert info is not None and info.ssh == SshAddress("203.0.113.9", 20000)
    assert "%7B%22id%22%3A" in bench.server.asked[1][1] and len(bench.asked) == 2
    late = serve(one(ports=None), page(row(id=78))).cloud.get("77")
    assert late is not None and late.status == "running" and late.ssh is None


def test_an_instance_that_never_shows_its_port_is_reached_by_the_proxy(serve: Serve) -> None:
    bench = serve(*[one(ports=None), page(row(ports=None))] * 2)
    first = bench.cloud.get("77")
    bench.pace.sleep(60.0)
    later = bench.cloud.get("77")
    assert first is not None and first.ssh is None
    assert later is not None and later.ssh == SshAddress("ssh5.vast.ai", 10600)
    old = serve(one(ports=None, uptime_mins=9.5), page(row(ports=None))).cloud.get("77")
    assert old is not None and old.ssh == SshAddress("ssh5.vast.ai", 10600), "whoever comes back need not wait again"


def test_a_list_is_read_to_its_last_page(serve: Serve) -> None:
    rows = [row(id=number) for number in range(1, 61)]
    bench = serve(page(*rows[:25], token="a", total=60), page(*rows[25:50], token="b", total=60), page(*rows[50:], total=60))
    assert [pod.id for pod in bench.cloud.list()] == [str(number) for number in range(1, 61)]
    assert "after_token=b" in bench.server.asked[-1][1] and "limit=25" in bench.server.asked[0][1]


@pytest.mark.parametrize(
    "answers",
    [
        [page(row(), token="a", total=2), Say(200, {"success": True})],
        [page(row(), token="a", total=2), refused(400, "invalid_token")],
        [page(row(), total=2)],
        [page(row(), token="a"), page(row(), token="a")],
        [Say(200, {"instances": None, "success": True})],
        [Say(200, {"instances": [None], "success": True})],
        [Say(200, {"instances": [], "success": False})],
        [Say(200, {"instances": [], "error": "invalid_request"})],
    ],
)
def test_a_list_that_is_not_whole_is_none(serve: Serve, answers: list[Say]) -> None:
    with pytest.raises(CloudError):
        serve(*answers).cloud.list()


def test_null_is_an_empty_list_only_beside_the_word_that_there_are_none(serve: Serve) -> None:
    none = {"success": True, "instances": None, "instances_found": 0, "total_instances": 0, "next_token": None}
    assert serve(Say(200, none)).cloud.list() == []
    for lie in ({**none, "total_instances": 1}, {**none, "success": False}, {**none, "total_instances": None}):
        with pytest.raises(CloudError):
            serve(Say(200, lie)).cloud.list()


def test_an_instance_that_is_half_made_is_listed_and_can_be_ended(serve: Serve) -> None:
    bare = page({"id": 5}, {"id": 6, "label": f"{NAME} - -"})
    assert [(pod.id, pod.status, pod.ssh) for pod in serve(bare).cloud.list()] == [("5", "accepted", None), ("6", "accepted", None)]


@pytest.mark.parametrize(
    "answer", [Say(200, {"success": True}), refused(404, "not_found"), refused(404, "no_such_instance"), refused(200, "no_such_instance")]
)
def test_destroying_what_is_gone_is_success_and_nothing_is_ever_stopped(serve: Serve, answer: Say) -> None:
    bench = serve(answer)
    bench.cloud.terminate("77")
    assert bench.asked == ["DELETE /api/v0/instances/77/"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(400, "invalid_args", "invalid instance_id"), CloudRefused),
        (refused(404, "auth_error"), CloudRefused),
        (Say(404, raw=b"<html>"), CloudUnknown),
        (Say(200, {"success": False}), CloudUnknown),
        (Say(200, raw=b""), CloudUnknown),
    ],
)
def test_destroying_is_believed_only_on_vasts_own_word(serve: Serve, answer: Say, error: type[CloudError]) -> None:
    with pytest.raises(CloudError) as raised:
        serve(answer).cloud.terminate("77")
    assert type(raised.value) is error


@pytest.mark.parametrize("pod_id", ["", "../users", "1/2", "abc", "-1"])
def test_an_id_that_is_none_reaches_no_address(serve: Serve, pod_id: str) -> None:
    bench = serve(one())
    for ask in (bench.cloud.get, bench.cloud.terminate):
        with pytest.raises(CloudRefused):
            ask(pod_id)
    assert bench.asked == []


@pytest.mark.parametrize(
    "turned_away",
    [
        Say(429, raw=b"API requests too frequent"),
        Say(429, raw=b"API requests too frequent: endpoint threshold=2.0"),
        Say(429, {"detail": "API requests too frequent"}),
    ],
)
def test_what_was_too_frequent_waits_for_the_endpoints_interval(serve: Serve, turned_away: Say) -> None:
    bench = serve(turned_away, Say(200, {"instances": None}))
    assert bench.cloud.get("77") is None
    assert bench.pace.slept == [2.0] or sum(bench.pace.slept) >= 2.0
