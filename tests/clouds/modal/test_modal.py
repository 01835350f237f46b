"""The real SDK against the emulated server of its protocol: what the contract (tests/clouds/contract.py) does not say of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clouds.account import Account, account, make_spec
from tests.rehearsal.conftest import QUICK, eventually
from trainyard.clouds import open_cloud
from trainyard.clouds.absence import KnownPod, prove
from trainyard.clouds.protocol import OfferQuery
from trainyard.config import places
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity, UserError
from trainyard.rehearsal.emulators import emulator_of
from trainyard.rehearsal.kit import start

sdk = pytest.mark.extras("modal")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account("modal", tmp_path_factory.mktemp("modal")) as made:
        yield made


@pytest.fixture
def at(opened: Account) -> Iterator[Account]:
    yield opened
    opened.clear()


def sent(at: Account) -> list[str]:
    return [str(line["once"]) for line in at.emulator.requests() if line.get("call") == "create"]


@sdk
@pytest.mark.parametrize("fault", ["create-reset-after", "create-500-after", "create-502-page-after"])
def test_an_answer_that_is_lost_each_time_is_one_sandbox_under_one_key_and_found_by_its_tags(at: Account, fault: str) -> None:
    spec, before = make_spec(at.cloud), len(sent(at))
    at.lie(fault, times=9)
    pod = at.rent(spec)
    assert (pod.name, pod.lease_id, pod.end) == (spec.name, spec.lease_id, spec.end) and at.alive() == {pod.id}
    keys = sent(at)[before:]
    assert 2 <= len(keys) <= 4 and len(set(keys)) == 1


@sdk
def test_nothing_is_definite_where_the_list_cannot_be_read(at: Account) -> None:
    at.offer()
    at.lie("create-no-capacity", "list-500")
    with pytest.raises(CloudUnknown):
        at.rent()


@sdk
def test_a_name_that_is_taken_is_ours_and_adopted(at: Account) -> None:
    spec = make_spec(at.cloud)
    first = at.rent(spec)
    assert at.rent(spec).id == first.id and at.alive() == {first.id}


@sdk
def test_a_name_that_is_taken_by_what_no_list_shows_yet_is_no_word_that_nothing_was_made(at: Account) -> None:
    spec = make_spec(at.cloud)
    at.rent(spec)
    at.lie("list-empty")
    with pytest.raises(CloudUnknown):
        at.rent(spec)


@sdk
def test_a_sandbox_that_gets_no_gpu_in_time_is_ended_and_counts_as_no_capacity(at: Account) -> None:
    at.offer()
    at.lie("boot-stuck-provisioning")
    cloud = at.open(MODAL_POST_SECONDS="1")
    with pytest.raises(NoCapacity, match="no GPU"):
        cloud.create(make_spec(cloud), at.offer())
    assert not at.alive()


@sdk
def test_an_image_that_cannot_be_fetched_is_refused_before_anything_is_rented(at: Account) -> None:
    at.offer()
    at.lie("image-fails")
    with pytest.raises(CloudRefused, match="manifest unknown"):
        at.rent()
    assert not at.alive()


@sdk
def test_more_than_a_day_more_gpus_than_there_are_and_unknown_prices_are_told_as_such(at: Account) -> None:
    with pytest.raises(UserError, match="24 hours"):
        at.cloud.offers(OfferQuery(gpus=("H100",), hours=25))
    with pytest.raises(CloudRefused, match="24 hours"):
        at.rent(make_spec(at.cloud, end=datetime.now(UTC) + timedelta(hours=25)))
    with pytest.raises(UserError, match="H200") as raised:
        at.cloud.offers(OfferQuery(gpus=("H200",)))
    assert "MODAL_PRICES=H200=" in str(raised.value.hint)
    assert [offer.gpu for offer in at.open(MODAL_PRICES="H200=4.54").offers(OfferQuery(gpus=("H200", "H100")))] == ["H200", "H100"]
    assert at.cloud.offers(OfferQuery(gpus=("A100 80GB",), gpu_count=9)) == [] and not at.alive()
    assert [offer.id for offer in at.cloud.offers(OfferQuery(gpus=("A100",), min_vram_gb=60))] == ["A100-80GB"]


@sdk
def test_a_command_ends_its_sandbox_with_its_code_and_modal_ends_one_that_lives_too_long(tmp_path: Path) -> None:
    emulator = start(emulator_of("modal"), tmp_path / "m", timing=QUICK, env={})
    try:
        cloud = open_cloud("modal", emulator.env, places(tmp_path, {}))
        [offer] = cloud.offers(OfferQuery(gpus=("T4",)))
        script = 'echo "$GREETING$SECRET" | wc -c; exec sh -c "exit 78"'
        spec = make_spec(cloud, command=("sh", "-c", script), env={"GREETING": "hello"}, secret_env={"SECRET": "x-signature"})
        ended = cloud.create(spec, offer)
        late = cloud.create(make_spec(cloud, command=("sleep", "60"), end=datetime.now(UTC) + timedelta(seconds=3)), offer)

        def said() -> str:
            info = cloud.get(ended.id)
            return f"{info.status}: {info.raw_status}" if info else "gone"

        eventually(lambda: said() == "exited: its command ended (78)")
        assert cloud.boot_problem(ended.id) == "its command ended (78): 17", "both kinds of variables were there"
        eventually(lambda: cloud.get(late.id) is None)
        assert cloud.list() == []
        emulator.faults.on("delete-forbidden", times=None)
        assert prove(cloud, [KnownPod(ended.id)]).proved, "it has finished, and costs nothing"
        with pytest.raises(CloudRefused):
            cloud.terminate(ended.id)
        assert [paid.why for paid in emulator.ledger()] == ["its command ended (78)", "its timeout"]
        listed = json.dumps([line for line in emulator.requests() if line.get("call") == "create"])
        assert "x-signature" not in listed
    finally:
        emulator.stop(end_pods=True)


@sdk
def test_its_sdk_is_imported_when_a_stack_of_it_is_opened_and_not_before() -> None:
    import subprocess

    code = "import sys, trainyard.cli.verbs, trainyard.doctor, trainyard.rehearsal.modal; print('modal' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_without_the_extra_cloud_and_rehearsal_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("trainyard.clouds.modal.", "trainyard.rehearsal.modal.gateway"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "trainyard.clouds.modal", raising=False)
    for name in ("modal", "modal_proto", "grpclib"):
        monkeypatch.setitem(sys.modules, name, None)
    began = time.monotonic()
    for call in (lambda: open_cloud("modal", {}, places(tmp_path, {})), lambda: start(emulator_of("modal"), tmp_path / "m", env={})):
        with pytest.raises(UserError, match="needs the package") as raised:
            call()
        assert raised.value.hint == "pip install 'trainyard[modal]'"
    assert time.monotonic() - began < 5
    nimble = replace(emulator_of("modal"), front=None)
    start(nimble, tmp_path / "m", env={}).stop()  # the folder was let go
