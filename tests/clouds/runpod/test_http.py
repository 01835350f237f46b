"""The retry policy of every cloud client, against a real server that answers as scripted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from tests.clouds.runpod.scripted import Say, Scripted, TurnedPace, refused_address
from trainyard.clouds import http
from trainyard.clouds.http import Api, Pace, check_address, exhausted_for
from trainyard.clouds.intervals import Intervals
from trainyard.errors import CloudRefused, CloudUnknown, UserError

Serve = Callable[..., Scripted]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Scripted] = []

    def start(*answers: Say) -> Scripted:
        servers.append(Scripted(*answers))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def pace() -> TurnedPace:
    return TurnedPace()


@pytest.fixture
def api(pace: TurnedPace) -> Iterator[Callable[..., Api]]:
    made: list[Api] = []

    def make(url: str, chance: float = 1.0, timeout: float = 5.0, **env: str) -> Api:
        made.append(Api("Cloud", url, {"Authorization": "Bearer k"}, env, Pace(pace.now, pace.sleep, lambda: chance), timeout))
        return made[-1]

    yield make
    for one in made:
        one.close()


Make = Callable[..., Api]


def test_a_read_is_tried_again_after_growing_pauses(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(*[Say(503)] * 4, Say(200, {"pods": []}))
    assert api(server.url).read("/pods").status_code == 200
    assert pace.slept == [1.0, 1.0, 2.0, 4.0]


def test_half_of_a_pause_is_left_to_chance(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(*[Say(500, headers={"Retry-After": "0"})] * 3, Say(200, {}))
    api(server.url, chance=0.0).read("/pods")
    assert pace.slept == [0.25, 0.5, 1.0]


def test_a_read_gives_up_with_no_definite_answer(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(Say(502))
    with pytest.raises(CloudUnknown, match="HTTP 502"):
        api(server.url).read("/pods")
    assert 2 <= len(server.asked) <= 8 and sum(pace.slept) <= 90


@pytest.mark.parametrize("status", [200, 204, 400, 401, 402, 403, 404, 409, 422])
def test_a_definite_answer_is_returned_at_once(serve: Serve, api: Make, status: int) -> None:
    server = serve(Say(status, raw=b""))
    assert api(server.url).delete("/pods/x").status_code == status
    assert len(server.asked) == 1


def test_retry_after_in_seconds_is_obeyed(serve: Serve, api: Make, pace: TurnedPace) -> None:
    api(serve(Say(429, {}, {"Retry-After": "12"}), Say(200, {})).url).read("/pods")
    assert pace.slept == [12.0]


def test_retry_after_as_a_date_is_obeyed(serve: Serve, api: Make, pace: TurnedPace) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    api(serve(Say(429, {}, {"Retry-After": later}), Say(200, {})).url).read("/pods")
    assert 25 < pace.slept[0] <= 30


def test_a_429_that_names_no_time_is_waited_out_by_its_rate_limit_header(serve: Serve, api: Make, pace: TurnedPace) -> None:
    api(serve(Say(429, {}, {"RateLimit": '"minute";r=0;t=17, "hour";r=9;t=100'}), Say(200, {})).url).read("/pods")
    assert pace.slept[0] == 17


def test_a_spent_limit_holds_up_what_can_wait_and_nothing_urgent(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(Say(200, {}, {"RateLimit": '"minute";r=0;t=20'}))
    client = api(server.url)
    client.read("/pods", urgent=True)
    client.read("/pods", urgent=True)
    client.delete("/pods/x")
    assert pace.slept == []
    client.read("/catalog/gpus")
    assert pace.slept == [20.0]


def test_a_reset_read_is_tried_again(serve: Serve, api: Make) -> None:
    server = serve(Say(reset=True), Say(200, {}))
    assert api(server.url).read("/pods").status_code == 200


def test_a_create_that_got_no_answer_is_sent_once_and_its_outcome_is_unknown(serve: Serve, api: Make) -> None:
    server = serve(Say(reset=True), Say(201, {"id": "twin"}))
    with pytest.raises(CloudUnknown):
        api(server.url).create("/pods", {}, limit=90)
    assert len(server.asked) == 1


def test_a_create_that_hangs_is_sent_once_and_its_outcome_is_unknown(serve: Serve, api: Make) -> None:
    server = serve(Say(silent=20))
    with pytest.raises(CloudUnknown):
        api(server.url, timeout=0.1).create("/pods", {}, limit=90)
    assert len(server.asked) == 1


@pytest.mark.parametrize("drips", ["headers", "body"])
def test_an_answer_that_drips_is_no_answer(serve: Serve, api: Make, drips: str) -> None:
    server = serve(Say(drips=drips))
    client = api(server.url, timeout=0.03)
    with pytest.raises(CloudUnknown, match="the last answer was: no whole answer within"):
        client.read("/pods")
    server.asked.clear()
    with pytest.raises(CloudUnknown, match="no whole answer within"):
        api(server.url, timeout=0.2).create("/pods", {}, limit=0.3)
    assert len(server.asked) == 1, "it may have been accepted: it is not sent again"
    server.answers = [Say(200, {"pods": []})]
    assert client.read("/pods", urgent=True).json() == {"pods": []}


def test_a_log_that_never_falls_silent_is_over_after_a_while(serve: Serve, api: Make) -> None:
    with pytest.raises(httpx.ReadTimeout), api(serve(Say(drips="body")).url, timeout=0.1).stream("/logs", {}, idle=3.0) as response:
        response.read()


def test_an_answer_longer_than_any_that_is_meant_is_none(serve: Serve, api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LONGEST_ANSWER", 1000)
    server = serve(Say(200, "x" * 2000))
    with pytest.raises(CloudUnknown, match="longer than 1,000 bytes"):
        api(server.url).read("/pods")
    assert api(serve(Say(200, "x" * 900, {"X": "\u00b2"})).url).read("/pods").json() == "x" * 900


@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 402, 403, 404, 409, 422, 500, 502, 503, 504])
def test_a_create_is_never_sent_again_after_an_answer(serve: Serve, api: Make, status: int) -> None:
    server = serve(Say(status, {}, {"Location": "http://127.0.0.1:1/"}))
    assert api(server.url).create("/pods", {}, limit=90).status_code == status
    assert len(server.asked) == 1


def test_a_create_turned_away_by_the_rate_limit_is_sent_again(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(Say(429, {}, {"Retry-After": "12"}), Say(201, {"id": "a"}))
    assert api(server.url).create("/pods", {}, limit=90).status_code == 201
    assert pace.slept == [12.0]


def test_a_create_does_not_wait_past_its_limit_for_the_rate_limit(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(Say(429, {}, {"Retry-After": "60"}))
    assert api(server.url).create("/pods", {}, limit=90).status_code == 429
    assert len(server.asked) == 1 and pace.slept == []


def test_a_create_that_reached_nobody_is_refused_not_unknown(api: Make, pace: TurnedPace) -> None:
    with pytest.raises(CloudRefused, match="nothing was created"):
        api(refused_address()).create("/pods", {}, limit=90)
    assert len(pace.slept) == 2


def test_a_create_uses_a_connection_of_its_own(serve: Serve, api: Make) -> None:
    server = serve(Say(200, {}))
    client = api(server.url)
    client.read("/pods")
    client.create("/pods", {}, limit=90)
    assert client._client is not None and len(server.asked) == 2


def test_the_breaker_spares_a_failing_cloud_but_never_holds_up_a_list_or_a_terminate(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(Say(500))
    client = api(server.url)
    with pytest.raises(CloudUnknown):
        client.read("/catalog/gpus")
    asked = len(server.asked)
    with pytest.raises(CloudUnknown, match="keeps failing"):
        client.read("/catalog/gpus")
    with pytest.raises(CloudRefused, match="nothing was sent"):
        client.create("/pods", {}, limit=90)
    assert len(server.asked) == asked
    server.answers = [Say(200, {})]
    assert client.read("/pods", urgent=True).status_code == 200
    assert client.read("/catalog/gpus").status_code == 200


def test_the_breaker_lets_a_try_through_after_a_while(serve: Serve, api: Make, pace: TurnedPace) -> None:
    server = serve(Say(500))
    client = api(server.url)
    with pytest.raises(CloudUnknown):
        client.read("/catalog/gpus")
    pace.time += 31
    server.answers = [Say(200, {})]
    assert client.read("/catalog/gpus").status_code == 200


def test_refusals_do_not_open_the_breaker(serve: Serve, api: Make) -> None:
    server = serve(Say(404, {}))
    client = api(server.url)
    for _ in range(10):
        assert client.read("/pods/x").status_code == 404


def test_the_clouds_clock_is_known_from_any_answer(serve: Serve, api: Make) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    client = api(serve(Say(200, {}, {"Date": format_datetime(ahead, usegmt=True)})).url)
    assert client.now() is None
    client.read("/pods")
    assert abs((client.now() or datetime.now(UTC)) - ahead) < timedelta(seconds=60)


def test_a_proxy_named_in_the_environment_is_used(serve: Serve, api: Make) -> None:
    proxy = serve(Say(200, {"from": "the proxy"}))
    address = proxy.url.removesuffix("/v2")
    client = api("http://cloud.example/v2", http_proxy=address)
    assert client.read("/pods").json() == {"from": "the proxy"}
    assert client.create("/pods", {}, limit=90).json() == {"from": "the proxy"}
    assert proxy.asked[0][1] == "http://cloud.example/v2/pods"


@pytest.mark.parametrize("exempt", ["127.0.0.1", "other.example, 127.0.0.1", "*"])
def test_no_proxy_is_honoured(serve: Serve, api: Make, exempt: str) -> None:
    server = serve(Say(200, {"from": "the server"}))
    client = api(server.url, HTTP_PROXY="http://127.0.0.1:9", NO_PROXY=exempt)
    assert client.read("/pods").json() == {"from": "the server"}


def test_a_proxy_that_is_not_there_means_nothing_was_created(api: Make) -> None:
    client = api("http://cloud.example/v2", HTTP_PROXY=refused_address().removesuffix("/v2"))
    with pytest.raises(CloudRefused, match="nothing was created"):
        client.create("/pods", {}, limit=90)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("https://api.runpod.io/v2/", None),
        ("http://127.0.0.1:8000/v2", None),
        ("http://localhost/v2", None),
        ("http://api.runpod.io/v2", "clear text"),
        ("ftp://api.runpod.io", "no http"),
        ("api.runpod.io/v2", "no http"),
        ("https://", "no http"),
    ],
)
def test_an_address_that_would_carry_the_key_in_clear_is_refused(value: str, wrong: str | None) -> None:
    if wrong is None:
        assert check_address("RUNPOD_API_URL", value) == value.rstrip("/")
    else:
        with pytest.raises(UserError, match=wrong):
            check_address("RUNPOD_API_URL", value)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ('"minute";r=0;t=12, "hour";r=2800;t=1812', 12),
        ('"minute";r=3;t=12, "hour";r=0;t=1812', 1812),
        ('"minute";r=3;t=12', 0),
        ("nonsense", 0),
        ("", 0),
    ],
)
def test_rate_limit_headers_are_read(header: str, seconds: float) -> None:
    assert exhausted_for(header) == seconds


def test_the_key_is_not_shown(api: Make) -> None:
    assert "Bearer" not in repr(api("http://127.0.0.1:1"))


def test_requests_of_one_kind_keep_their_distance_and_others_do_not_wait(serve: Serve, api: Make, pace: TurnedPace) -> None:
    client = api(serve(*[Say(200, {})] * 5).url)
    client.intervals = Intervals({r"GET /pods/\d": 2.0, "GET /pods": 1.0})
    for path in ("/pods/1", "/other", "/pods/2", "/pods", "/pods"):
        client.read(path)
    assert pace.slept == [2.0, 1.0]


def test_what_was_too_frequent_is_sent_again_when_its_interval_is_over(serve: Serve, api: Make, pace: TurnedPace) -> None:
    client = api(serve(Say(429, "API requests too frequent"), Say(200, {}), Say(429, {"detail": "x"}), Say(200, {})).url)
    client.intervals = Intervals({"PUT /asks": 4.5})
    assert client.create("/asks/1", {}, limit=90, method="PUT").status_code == 200
    assert client.put("/asks/1", {}).status_code == 200
    assert pace.slept == [4.5, 4.5, 4.5]


def test_an_answer_that_is_final_is_not_asked_for_again(serve: Serve, api: Make, pace: TurnedPace) -> None:
    client = api(serve(Say(429, {"error": "quota"})).url)
    client.final = lambda response: "quota" in response.text
    assert client.ask("/bundles", {}).status_code == 429 and pace.slept == []
