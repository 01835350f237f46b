"""Every verb that ends something says "gone" on a proof alone: a RunPod that lies, refuses or is not there gives code 6, pod and price."""

from __future__ import annotations

import io
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.faults.world import STACK, CloudYard, World
from tests.rehearsal.conftest import make_spec
from trainyard.clock import Clock, format_time
from trainyard.clouds import http
from trainyard.clouds.absence import LEAVE
from trainyard.clouds.protocol import OfferQuery, PodInfo
from trainyard.errors import CloudError, StillThere, TrainyardError, UserError
from trainyard.ledger.ledger import Ledger
from trainyard.rehearsal.kit import Emulator, Timing, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.remote.transport import Address
from trainyard.runs.context import CommandContext
from trainyard.runs.life import teardown
from trainyard.runs.records.parts import NO_POD, RunPod
from trainyard.runs.records.pod import ReachablePod
from trainyard.runs.records.pods import take_from_cloud
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import account, environments, reap
from trainyard.runs.verbs.attach import cancel

PATIENCE = teardown.PATIENCE
NO_WAY = ("delete-forbidden", "graphql-error")
"""The cloud refuses for good to end anything."""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An account whose pods cost money and never start."""
    with tempfile.TemporaryDirectory(prefix="ve") as folder:
        limits = {"minute": 10**6, "hour": 10**6, "day": 10**7}
        running = start(RUNPOD, Path(folder), timing=Timing(provisioning=1e9), limits=limits, env={})
        yield running
        running.stop(end_pods=True)


class Site:
    """One person's checkout before that account."""

    def __init__(self, base: Path, emulator: Emulator) -> None:
        self.emulator, self.printed = emulator, io.StringIO()
        self.yard = CloudYard(base / "y", world=World(base, emulator, settle_seconds=0.2))

    @property
    def context(self) -> CommandContext:
        return CommandContext(self.yard.places, self.yard.env, Ui(stream=self.printed))

    def without_key(self) -> CommandContext:
        return replace(self.context, env={key: value for key, value in self.yard.env.items() if key != "RUNPOD_API_KEY"})

    def rent(self, seconds: float = 3600, **changes: Any) -> PodInfo:
        cloud = self.yard.cloud
        return cloud.create(make_spec(seconds, **changes), cloud.offers(OfferQuery(gpus=("RTX 5090",)))[0])

    def lie(self, *names: str) -> None:
        for name in names:
            self.emulator.faults.on(name)

    def lie_once_a_delete_was_asked(self, *names: str) -> None:
        """The list that found the pod told the truth; what comes after does not."""
        began = time.time()

        def watch() -> None:
            while not any(r["time"] >= began and r["method"] == "DELETE" for r in self.emulator.requests()):
                time.sleep(0.005)
            self.lie(*names)

        threading.Thread(target=watch, daemon=True).start()

    def alive(self) -> list[str]:
        return [record["id"] for record in self.emulator.fleet.all()]

    def run_of(self, pod: PodInfo, label: str = "a") -> RunFolder:
        """A run of which only the record is left: its pod is ended through the cloud."""
        told = RunPod(pod_id=pod.id, lease_id=pod.lease_id, price_per_hour=pod.price_per_hour, end="2030-01-01T00:00:00Z")
        record = RunRecord(
            user="tester", label=label, attempt=1, environment=STACK, recipe="command", values={}, bundle_sha256="0", hours=1.0,
            created=time.time(), phase="started", pod=told,
        )  # fmt: skip
        take_from_cloud(record, pod)
        folder = RunFolder(record.id.folder(self.yard.places.runs))
        folder.path.mkdir(parents=True)
        folder.save(record)
        return folder


@pytest.fixture
def site(tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(teardown, "_PAUSE", 0.0)
    monkeypatch.setattr(teardown, "PATIENCE", 2.0)
    yield Site(tmp_path, emulator)
    emulator.faults.off()
    for record in emulator.fleet.all():
        emulator.fleet.delete(record["id"], "after a test")


def names_it(error: BaseException, pod: PodInfo) -> bool:
    return pod.id in str(error) and f"${pod.price_per_hour:.2f}/h" in str(error) and "invoke " in str(error)


def test_end_says_gone_only_when_the_pod_is(site: Site) -> None:
    pod = site.rent()
    site.lie(*NO_WAY)
    site.lie_once_a_delete_was_asked("list-empty")
    with pytest.raises(StillThere) as caught:
        account.end_pod(site.context, STACK, pod.id)
    assert names_it(caught.value, pod) and site.alive() == [pod.id]
    site.emulator.faults.off()
    assert account.end_pod(site.context, STACK, pod.id) == 0
    assert site.alive() == []


def test_end_finds_a_pod_that_the_list_misses(site: Site) -> None:
    pod = site.rent()
    site.emulator.faults.on("list-empty", times=1)
    assert account.end_pod(site.context, STACK, pod.id) == 0
    assert site.alive() == []
    with pytest.raises(UserError, match="knows no pod of ours"):
        account.end_pod(site.context, STACK, pod.id)


def test_what_reap_or_end_has_ended_here_is_on_record_with_the_run_unless_somebody_drives_it(site: Site) -> None:
    folders = [site.run_of(site.rent(-10), label) for label in ("a", "b", "c")]
    with folders[1].driving():
        assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == 0
    assert re.search(r"over: ended, proved, \$[\d.]+/h, ends ", site.printed.getvalue()), "no status: it was one before its end"
    assert [[pod.ended is not None for pod in folder.load().pods] for folder in folders] == [[True], [False], [True]]
    by_hand = site.run_of(pod := site.rent(), "d")
    assert account.end_pod(site.context, STACK, pod.id) == 0
    assert [pod.ended is not None for pod in by_hand.load().pods] == [True]


def test_a_pod_that_outlived_its_lease_is_seen_before_it_is_ended(site: Site) -> None:
    folder = site.run_of(site.rent(-10))
    record = folder.load()
    record.pod = replace(record.pod, end=format_time(time.time() - 10))
    teardown.destroy_run(site.context, record, folder)

    assert [pod.seen is not None and pod.ended is not None and pod.ended >= pod.seen for pod in record.pods] == [True]


def test_reap_exits_6_for_a_pod_that_only_an_empty_list_calls_gone(site: Site) -> None:
    pod = site.rent(-10)
    site.lie(*NO_WAY)
    site.lie_once_a_delete_was_asked("list-empty")
    assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == 6
    assert f"{pod.id}" in site.printed.getvalue() and "STILL THERE" in site.printed.getvalue()
    assert site.alive() == [pod.id]


def test_a_cloud_that_does_not_answer_the_reaper_is_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise CloudError("the sky is closed", hint="wait")

    monkeypatch.setattr(reap, "reap", refuse)
    assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == CloudError.exit_code
    assert site.printed.getvalue().count("the sky is closed") == 1 and "wait" in site.printed.getvalue()


def test_reap_and_audit_believe_no_single_list(site: Site) -> None:
    pod = site.rent(-10)
    site.emulator.faults.on("list-empty", times=1)
    account.audit(site.context, STACK, as_json=False)
    assert pod.id in site.printed.getvalue()
    site.emulator.faults.on("list-misses-one", times=1)
    assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == 0
    assert site.alive() == []


def test_reap_of_a_list_that_is_always_empty_says_6_while_the_account_is_charged(site: Site) -> None:
    assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == 0
    pod = site.rent()
    assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == 0, "what is listed is no secret"
    site.lie("list-empty")
    assert account.reap_stacks(site.context, STACK, dry_run=False, as_json=False) == 6
    assert f"charges ${pod.price_per_hour:.4f}/h now" in site.printed.getvalue() and "is not known" in site.printed.getvalue()


def test_what_reap_and_audit_show_is_whole_on_80_columns(site: Site) -> None:
    pod = site.rent()
    account.reap_stacks(site.context, STACK, dry_run=True, as_json=False)
    account.audit(site.context, STACK, as_json=False)
    lines = site.printed.getvalue().splitlines()
    assert f"{pod.id}  {pod.name}" in lines and any(line.startswith("    leased, $") and len(line) <= 80 for line in lines)
    assert any(f"ours  pod {pod.id}" in line for line in lines)


@pytest.mark.parametrize("lies", [("list-empty",), ("list-misses-one",), ("list-empty-with-error",), ("get-404-untrue", "list-empty")])
def test_cancel_now_says_6_while_the_pod_runs_and_ends_it_later(site: Site, lies: tuple[str, ...]) -> None:
    pod = site.rent()
    folder = site.run_of(pod)
    site.lie(*NO_WAY, *lies)
    with pytest.raises(StillThere) as caught:
        cancel(site.context, "a", now=True)
    assert names_it(caught.value, pod) and site.alive() == [pod.id] and not folder.load().reached("ended")
    site.emulator.faults.off()
    summary = cancel(site.context, "a", now=True)
    assert summary is not None and site.alive() == []
    assert [told.pod_id for told in summary.pods] == [pod.id] and summary.pods[0].ended_at


def test_a_pod_that_takes_every_request_to_end_and_lives_on_is_told_within_ten_minutes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = site.rent()
    folder = site.run_of(pod)
    folder.config.write_text("config: {}\n")
    now, tries = [time.time()], []

    def engine(*_: object) -> TrainyardError:
        tries.append(now[0])
        now[0] += LEAVE  # so long it waits for a pod that it was told is ending
        return StillThere(f"pod {pod.id} is still there")

    monkeypatch.setattr(teardown, "PATIENCE", PATIENCE)
    monkeypatch.setattr(teardown, "_by_engine", engine)
    monkeypatch.setattr(teardown, "_exists", lambda stack: True)
    site.lie("delete-ignored")
    clock = Clock(lambda: now[0], lambda seconds: now.__setitem__(0, now[0] + seconds))
    began = now[0]

    with pytest.raises(StillThere) as caught:
        teardown.destroy_run(site.context, folder.load(), folder, clock=clock)

    assert names_it(caught.value, pod) and site.alive() == [pod.id]
    assert now[0] - began <= 600 + 15 and len(tries) == 1


def test_a_run_whose_state_is_lost_has_not_ended_while_a_pod_of_its_environment_is_unexplained(site: Site) -> None:
    pod = site.rent()
    folder = site.run_of(pod)
    record = folder.load()
    record.phase, record.pod, record.pods = "prepared", NO_POD, []
    folder.save(record)
    folder.config.write_text(f"config:\n  trainyard:fence_id: {pod.fence_id}\n")
    Ledger(site.yard.places.ledger).add(record.id, "up")
    with pytest.raises(StillThere) as caught:
        cancel(site.context, "a", now=True)
    assert names_it(caught.value, pod) and not folder.load().reached("ended")
    account.end_pod(site.context, STACK, pod.id)
    assert cancel(site.context, "a", now=True) is not None and folder.load().reached("ended")


def test_cancel_without_the_cloud_s_key_is_not_knowing(site: Site) -> None:
    pod = site.rent()
    site.run_of(pod)
    with pytest.raises(StillThere, match="RUNPOD_API_KEY is not set") as caught:
        cancel(site.without_key(), "a", now=True)
    assert names_it(caught.value, pod) and site.alive() == [pod.id]


def destroy(site: Site, context: CommandContext | None = None) -> int:
    return environments.operate(context or site.context, STACK, "destroy", yes=True, as_json=False)


def test_destroy_of_a_state_that_is_lost_says_6_while_the_account_has_pods_of_ours(site: Site) -> None:
    pod = site.rent()
    for _ in range(2):
        with pytest.raises(StillThere) as caught:
            destroy(site)
        assert names_it(caught.value, pod) and "reap" in str(caught.value)


def test_destroy_of_an_empty_state_is_done_beside_a_colleague_s_pod_and_tells_it(site: Site) -> None:
    assert destroy(site) == 0  # as after an up that ended before it had a lease: a state is there, and made nothing
    stranger = site.rent()
    assert destroy(site) == 0 and site.alive() == [stranger.id]
    assert stranger.id in site.printed.getvalue() and "not of this stack" in site.printed.getvalue()


def test_destroy_of_a_damaged_state_is_no_proof_of_anything(site: Site) -> None:
    assert destroy(site) == 0
    (state,) = (site.yard.home / "state").rglob(f"{STACK}.json")
    state.write_text('{"version": 3, ', encoding="utf-8")
    pod = site.rent()
    with pytest.raises(TrainyardError) as caught:
        destroy(site)
    assert caught.value.exit_code != 0 and site.alive() == [pod.id] and pod.id in str(caught.value)


def test_destroy_that_cannot_ask_the_cloud_never_says_destroyed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StillThere, match="RUNPOD_API_KEY is not set"):
        destroy(site, site.without_key())
    monkeypatch.setattr(http, "URGENT", http.Retry(attempts=2, limit=1))
    gone = {**site.yard.env, "RUNPOD_API_URL": "http://127.0.0.1:1/v2", "RUNPOD_GRAPHQL_URL": "http://127.0.0.1:1/graphql"}
    with pytest.raises(StillThere, match="does not tell which pods there are"):
        destroy(site, replace(site.context, env=gone))


def test_destroy_ends_through_the_cloud_what_the_engine_cannot_and_needs_a_proof_for_that_too(site: Site) -> None:
    environments.operate(site.context, STACK, "up", yes=True, as_json=False)
    fence = str(environments.shown_outputs(site.context, STACK, show_secrets=False)["fence_id"])
    pod, key = site.rent(fence_id=fence), site.yard.places.ssh / STACK / "id_ed25519"
    with pytest.raises(StillThere, match="RUNPOD_API_KEY is not set"):
        destroy(site, site.without_key())
    assert key.is_file(), "what is left may have to be logged in to"
    site.lie(*NO_WAY)
    with pytest.raises(StillThere) as caught:
        destroy(site)
    assert names_it(caught.value, pod) and site.alive() == [pod.id]
    assert key.is_file()
    site.emulator.faults.off()
    assert destroy(site) == 0 and site.alive() == [] and not key.exists()
    stranger = site.rent()
    assert destroy(site) == 0, "the last destroy named what was this stack's: what is there now is somebody else's"
    assert stranger.id in site.printed.getvalue() and site.alive() == [stranger.id]


def test_the_end_of_a_pod_that_destroy_alone_could_prove_is_on_record_with_its_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    environments.operate(site.context, STACK, "up", yes=True, as_json=False)
    fence = str(environments.shown_outputs(site.context, STACK, show_secrets=False)["fence_id"])
    folder = site.run_of(site.rent(fence_id=fence))

    def fails(*_: object, **__: object) -> None:
        raise TrainyardError("its state cannot be read")

    monkeypatch.setattr("trainyard.runs.verbs.attach.cancel", fails)
    assert destroy(site) == 0 and site.alive() == []
    assert [pod.ended is not None for pod in folder.load().pods] == [True]


def test_destroy_that_was_killed_at_its_end_is_proved_by_the_next_one_beside_a_colleague_s_pod(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments.operate(site.context, STACK, "up", yes=True, as_json=False)
    fence = str(environments.shown_outputs(site.context, STACK, show_secrets=False)["fence_id"])
    stranger = site.rent()
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr("trainyard.runs.verbs.destroy.prove", killed)
        with pytest.raises(KeyboardInterrupt):
            destroy(site)
    late = site.rent(fence_id=fence)
    assert destroy(site) == 0 and site.alive() == [stranger.id], late.id


def test_up_whose_pod_never_boots_says_6_with_price_and_command(site: Site) -> None:
    site.yard.settings(pods=1, boot_accepted_minutes=0.01)
    with pytest.raises(TrainyardError) as caught:
        environments.operate(site.context, STACK, "up", yes=True, as_json=False)
    (pod,) = site.alive()
    assert caught.value.exit_code == 6 and pod in str(caught.value) and "/h" in str(caught.value)
    assert "not past phase 'accepted'" in str(caught.value) and f"invoke destroy --stack {STACK}" in str(caught.value)
    assert destroy(site) == 0 and site.alive() == []


def test_a_training_is_not_given_up_for_untrue_404s_while_the_list_shows_its_pod(site: Site) -> None:
    pod = site.rent()
    watched = ReachablePod(pod.id, str(pod.lease_id), "/workspace", Address("127.0.0.1", 1), site.yard.cloud)
    site.lie("get-404-untrue")
    assert watched.over(sleep=lambda seconds: None) is None
    site.emulator.faults.off()
    site.emulator.fleet.delete(pod.id, "by the cloud")
    assert "is gone" in str(watched.over(sleep=lambda seconds: None))
