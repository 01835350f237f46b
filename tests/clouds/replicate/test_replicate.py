"""What is asked of Replicate and what its answers mean, against the emulator and its specification."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.account import OPTIONS, Account, account, make_spec
from tests.clouds.played import specification
from tests.rehearsal.conftest import eventually
from trainyard.clouds.protocol import Offer, OfferQuery, PodSpec
from trainyard.clouds.replicate.answers import pod_info
from trainyard.clouds.replicate.request import job_request, parse_version
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError

TEMPLATE = OPTIONS["replicate"]["template"]
PREDICTION = {"template": TEMPLATE}
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
OFFER = Offer("gpu-2x-l40s", "replicate", "L40S", 2, 7.02)
SHORT = timedelta(minutes=25)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account("replicate", tmp_path_factory.mktemp("replicate")) as made:
        yield made


@pytest.fixture
def at(opened: Account) -> Iterator[Account]:
    yield opened
    opened.clear()


def prediction(at: Account, **changes: object) -> PodSpec:
    end = datetime.fromtimestamp(at.now(), UTC).replace(microsecond=0) + SHORT
    return make_spec(at.cloud, options=PREDICTION, end=end, stop=end, **changes)


def spec(**changes: Any) -> PodSpec:
    asked = PodSpec(
        name="ty-0123456789-abcdef0123-pod-0123abcd", fence_id="0123456789", lease_id="abcdef0123", stop=NOW, end=NOW + timedelta(hours=3),
        command=("sh", "-c", "true"), env={"A": "b"}, secret_env={"TRAINYARD_SECRETS": "hush"}, options=OPTIONS["replicate"],
    )  # fmt: skip
    return replace(asked, **changes)


def test_a_destination_makes_a_training_and_its_lack_a_prediction() -> None:
    training = job_request(spec(), OFFER, NOW, SHORT)
    short = job_request(spec(options=PREDICTION, end=NOW + SHORT), OFFER, NOW, SHORT)

    assert (training.kind, training.path) == ("trainings", f"/models/you/trainyard/versions/{'0' * 64}/trainings")
    assert (short.kind, short.path, short.body["version"]) == ("predictions", "/predictions", TEMPLATE)
    assert training.body["destination"] == "you/trained" and training.body["input"] != short.body["input"], "they end at other times"
    assert (training.headers, short.headers) == ({"Cancel-After": "10800s"}, {"Cancel-After": "1500s"})


def test_what_is_secret_stands_in_one_input_and_nowhere_else() -> None:
    body: Any = job_request(spec(), OFFER, NOW, SHORT).sent
    assert json.loads(body["input"].pop("secrets")) == {"TRAINYARD_SECRETS": "hush"}
    assert "hush" not in json.dumps(body) and "hush" not in repr(job_request(spec(), OFFER, NOW, SHORT))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"options": PREDICTION}, "25 minutes after its start"),
        ({"options": {"destination": "a/b"}}, "no version of a model is said"),
        ({"options": {"template": "a/b:latest"}}, "no version of a model"),
        ({"command": ()}, "one of both is missing"),
        ({"end": None}, "one of both is missing"),
    ],
)
def test_what_replicate_cannot_keep_is_refused_and_nothing_is_sent(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(CloudRefused, match=says) as raised:
        job_request(spec(**changes), OFFER, NOW, SHORT)
    assert "nothing was sent" in raised.value.message


def test_offers_are_the_hardware_by_name_count_and_list_price(at: Account) -> None:
    def offered(*wanted: str, **query: Any) -> list[tuple[str | None, int, float]]:
        return [(o.gpu, o.gpu_count, o.price_per_hour) for o in at.cloud.offers(OfferQuery(gpus=wanted, **query))]

    assert offered("H100", "L40S") == [("H100", 1, 5.49), ("L40S", 1, 3.51)]
    assert offered("A100", gpu_count=8) == [("A100 (80GB)", 8, 40.32)] and offered("A40") == [("A40", 1, 2.07), ("A40 (Large)", 1, 2.61)]
    assert offered("L40S", min_vram_gb=80.0) == offered("L40S", max_price=3.0) == offered("T4", gpu_count=3) == []
    own = at.open(REPLICATE_PRICES="H100=4")
    assert own.offers(OfferQuery(gpus=("H100",), gpu_count=2))[0].price_per_hour == 8.0
    with pytest.raises(UserError, match="no GPU is called 'H1000'"):
        offered("H1000")
    with pytest.raises(UserError, match="needs a GPU"):
        offered()


def test_the_version_that_is_shipped_is_none_before_anything_is_asked(at: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at.cloud, "simulated", False)
    with pytest.raises(UserError, match="its id is all zeros") as refused:
        at.cloud.offers(OfferQuery(gpus=("L40S",), options=OPTIONS["replicate"]))
    assert refused.value.facts == {"setting": "template", "value": TEMPLATE} and "Push the wrapper" in str(refused.value.hint)
    with pytest.raises(UserError, match="no version of a model is said"):
        at.cloud.offers(OfferQuery(gpus=("L40S",), options={"destination": "you/trained"}))


def test_hardware_without_a_known_price_is_told_with_the_way_to_say_it(at: Account) -> None:
    rows = [{"name": "Nvidia H200 GPU", "sku": "gpu-h200"}, {"name": "CPU", "sku": "cpu"}]
    at.emulator.faults.on("lie-catalog", body=rows, status=200)
    with pytest.raises(UserError, match="what H200 costs") as raised:
        at.cloud.offers(OfferQuery(gpus=("H200",)))
    assert "REPLICATE_PRICES=H200=" in str(raised.value.hint)
    at.emulator.faults.on("lie-catalog", body={"rows": rows}, status=200)
    with pytest.raises(CloudUnknown):
        at.cloud.offers(OfferQuery(gpus=("H200",)))


def test_a_version_that_is_not_there_or_not_ours_is_refused_before_anything_is_rented(at: Account) -> None:
    query = OfferQuery(gpus=("L40S",), options=OPTIONS["replicate"])
    assert at.cloud.offers(query)
    at.lie("version-gone", times=1)
    with pytest.raises(UserError, match="knows no version you/trainyard"):
        at.cloud.offers(query)
    at.lie("version-of-others", times=1)
    with pytest.raises(UserError, match="takes no inputs of Trainyard's") as raised:
        at.cloud.offers(query)
    assert "docs/clouds/replicate.md" in str(raised.value.hint)
    with pytest.raises(UserError, match="'you/trainyard' is no version"):
        at.cloud.offers(replace(query, options={"template": "you/trainyard"}))
    assert parse_version(TEMPLATE).owner == "you"


def test_a_prediction_is_seen_ended_and_gone_as_a_training_is(at: Account) -> None:
    job, training = at.rent(prediction(at)), at.rent()
    for client in (at.cloud, at.open()):  # one that made them, one that has never seen them
        assert {pod.id for pod in client.list()} == {job.id, training.id}
    stranger = at.open()
    shown = stranger.get(job.id)
    assert shown is not None and (shown.name, shown.lease_id, shown.end) == (job.name, job.lease_id, job.end)
    at.open().terminate(job.id)
    assert at.alive() == {training.id} and stranger.get(job.id) is None


def test_the_emulators_jobs_are_of_the_specification(at: Account) -> None:
    specified, wrong = specification(Path(__file__).parent), []
    for made in (at.rent(prediction(at)), at.rent()):
        kind = at.emulator.fleet.existing(made.id)["request"]["kind"]
        record = at.emulator.fleet.existing(made.id)["request"]
        body = {key: value for key, value in record.items() if key in ("input", "version" if kind == "predictions" else "destination")}
        where = "/v1/predictions" if kind == "predictions" else f"/v1/models/you/trainyard/versions/{'0' * 64}/trainings"
        operation = specified.operation("POST", where) or ""
        wrong += specified.wrong(operation, "request", body)
        for status, method, path in (
            ("201", "POST", where),
            ("200", "GET", f"/v1/{kind}/{made.id}"),
            ("200", "POST", f"/v1/{kind}/{made.id}/cancel"),
        ):
            data = json.dumps(body).encode() if status == "201" else None
            request = urllib.request.Request(
                at.emulator.address + path, data=data, method=method, headers={"Authorization": f"Bearer {at.emulator.key}"}
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == int(status)
                wrong += specified.wrong(specified.operation(method, path) or "", status, json.load(answer))
    assert wrong == []


def test_what_has_ended_by_itself_costs_nothing_and_is_gone_also_for_a_key_that_may_not_end(at: Account) -> None:
    made = at.rent()
    record = at.emulator.fleet.existing(made.id)
    at.run(made.id, 1)
    record["exit_code"] = 1
    record["lost"].append("RuntimeError: the run's command has ended with exit code 78")
    at.emulator.fleet.act(made.id, "stop")

    shown = at.cloud.get(made.id)
    assert shown is not None and (shown.status, shown.raw_status) == ("exited", "failed") and at.cloud.list() == []
    assert "exit code 78" in str(at.cloud.boot_problem(made.id))
    at.sleep(30)
    other = at.rent()
    at.lie("delete-forbidden")
    [gone] = at.prove(made.id).ended
    assert not gone.here and gone.lived is not None and gone.lived <= 2, "not what it took until somebody looked"
    assert [left.id for left in at.prove(other.id).there] == [other.id], "one that runs is another thing"


def test_a_job_whose_status_is_no_word_has_finished_once_it_tells_when(at: Account) -> None:
    done, works = at.rent(), at.rent()
    at.cloud.terminate(done.id)
    at.emulator.faults.on("lie-list", how="status null")
    at.emulator.faults.on("lie-get", how="status null")
    assert [pod.id for pod in at.cloud.list()] == [works.id]
    assert [getattr(at.cloud.get(pod.id), "status", None) for pod in (done, works)] == ["exited", "unknown"]


def test_a_job_that_dies_by_itself_has_failed(at: Account) -> None:
    made = at.rent()
    at.run(made.id, 1)
    at.emulator.faults.on("pod-dies")
    at.emulator.fleet.existing(made.id)["due"] = 0.0
    other = at.rent()  # wakes the emulator's fleet, which sleeps until something is due
    eventually(lambda: [pod.id for pod in at.cloud.list()] == [other.id])
    assert getattr(at.cloud.get(made.id), "raw_status", "") == "failed"


@pytest.mark.parametrize("fault", ["list-without-next", "list-in-a-circle", "list-empty-with-error"])
def test_a_list_whose_end_nobody_tells_is_an_error(at: Account, fault: str) -> None:
    at.rent()
    at.lie(fault)
    with pytest.raises(CloudError):
        at.cloud.list()


def test_predictions_of_other_days_are_not_read(at: Account) -> None:
    at.rent(prediction(at))
    at.sleep(25 * 3600.0)
    at.emulator.faults.on("clock-ahead", seconds=0)
    assert len(at.alive()) == 1 and at.open().list() == []


def test_a_longer_limit_of_predictions_is_believed_up_to_a_day(at: Account) -> None:
    end = datetime.fromtimestamp(at.now(), UTC) + timedelta(hours=2)
    asked = make_spec(at.cloud, options=PREDICTION, end=end)
    with pytest.raises(CloudRefused):
        at.cloud.create(asked, at.offer())
    assert at.open(REPLICATE_PREDICTION_MINUTES="180").create(asked, at.offer()).id
    with pytest.raises(CloudRefused, match="1440 minutes"):
        at.open(REPLICATE_PREDICTION_MINUTES="9999").create(replace(asked, end=end + timedelta(days=2)), at.offer())


def test_a_prediction_with_too_long_a_lease_is_refused_when_it_is_planned(at: Account) -> None:
    query = OfferQuery(gpus=("L40S",), options=PREDICTION)
    with pytest.raises(UserError, match=r"30 minutes after its start, and this lease is longer \(150 minutes") as refused:
        at.cloud.offers(replace(query, hours=2.5))
    assert refused.value.facts["setting"] == "hours" and "destination" in str(refused.value.hint)
    assert at.cloud.offers(replace(query, hours=0.4)) and at.cloud.offers(replace(query, hours=2.5, options=OPTIONS["replicate"]))


def test_only_what_never_came_to_the_deed_has_made_nothing(at: Account) -> None:
    for fault, kind, says in (
        ("create-no-balance", CloudRefused, "Insufficient credit"),
        ("create-unauthorized", CloudRefused, "Invalid token"),
        ("create-forbidden-page", CloudUnknown, "not its own answer"),
        ("create-another-job", CloudUnknown, "another job"),
        ("create-500-after", CloudUnknown, "HTTP 500"),
    ):
        at.lie(fault, times=1)
        with pytest.raises(CloudError, match=says) as raised:
            at.rent()
        assert type(raised.value) is kind, fault
        at.clear()


def test_a_job_whose_inputs_are_gone_or_strange_is_somebody_elses() -> None:
    strange: list[object] = [None, [], {"env": "{"}, {"env": "[]", "hardware": "1x T4 at cost"}, {"hardware": 7, "pod": 8}]
    for given in strange:
        info = pod_info({"id": "a", "status": "processing", "model": "stability-ai/sdxl", "input": given})
        assert (info.name, info.lease_id, info.price_per_hour, info.status) == ("stability-ai/sdxl", None, None, "running")
    with pytest.raises(CloudUnknown):
        pod_info({"status": "processing"})
