"""The rehearsal's pods are real: real SSH, real watchdogs that end them with the pod's own key, ledger that tell who was paid."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.rehearsal.conftest import PRIVATE_KEY, QUICK, eventually, make_foreign, make_spec, reachable, rent
from trainyard.clouds.protocol import PodInfo
from trainyard.clouds.runpod import RunPodCloud
from trainyard.errors import CloudRefused
from trainyard.rehearsal.kit import Emulator, Paid, start
from trainyard.rehearsal.runpod import RUNPOD
from trainyard.remote.transport import Address, connect


def run(info: PodInfo, command: str, tmp_path: Path) -> str:
    assert info.ssh is not None
    key = tmp_path / "key"
    key.write_text(PRIVATE_KEY)
    key.chmod(0o600)
    with connect(Address(info.ssh.host, info.ssh.port, info.ssh.user, info.host_key, key), timeout=15) as transport:
        return transport.exec(command).stdout.decode()


def watchdog(info: PodInfo, tmp_path: Path) -> dict[str, object]:
    try:
        value: dict[str, object] = json.loads(run(info, "cat $WORKSPACE/.trainyard/watchdog/status.json", tmp_path))
    except ValueError:
        return {}
    return value


@pytest.mark.parametrize("make", [make_spec, make_foreign], ids=["our image", "foreign image"])
def test_a_pod_answers_under_its_pinned_host_key_with_an_armed_watchdog(cloud: RunPodCloud, tmp_path: Path, make: object) -> None:
    info = reachable(cloud, rent(cloud, make()).id)  # type: ignore[operator]
    eventually(lambda: watchdog(info, tmp_path).get("key_sees_pod"))
    status = watchdog(info, tmp_path)
    assert status["armed"] and status["pod_id"] == info.id and status["ways"] == ["RunPod REST", "RunPod GraphQL"]


def test_a_machine_without_namespaces_rehearses_too(cloud: RunPodCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_ISOLATION", "process")
    over = rent(cloud, make_foreign(1.5))
    info = reachable(cloud, rent(cloud, make_foreign()).id)
    assert info.workspace != "/workspace" and run(info, "echo $WORKSPACE", tmp_path).strip() == info.workspace
    eventually(lambda: watchdog(info, tmp_path).get("key_sees_pod"))
    eventually(lambda: cloud.get(over.id) is None)
    assert cloud.get(info.id) is not None


@pytest.mark.parametrize("make", [make_spec, make_foreign], ids=["our image", "foreign image"])
def test_the_watchdog_ends_the_pod_at_its_end_with_the_pods_own_key(cloud: RunPodCloud, rehearsal: Emulator, make: object) -> None:
    made = rent(cloud, make(2.5))  # type: ignore[operator]
    eventually(lambda: made.id not in rehearsal.fleet.ledger.pods)
    assert cloud.get(made.id) is None
    [paid] = [p for p in rehearsal.ledger() if p.pod == made.id]
    assert paid.why == "deleted by its own key" and paid.end is not None
    assert made.end is not None and made.created is not None and paid.end <= made.end.timestamp() + 20


def test_a_pod_whose_key_is_refused_outlives_its_end_and_the_books_say_so(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    rehearsal.faults.on("pod-key-refused")
    made = rent(cloud, make_spec(1.5))
    eventually(lambda: rehearsal.fleet.now() > made.end.timestamp() + 1)  # type: ignore[union-attr]
    assert cloud.get(made.id) is not None
    cloud.terminate(made.id)
    assert cloud.get(made.id) is None


def test_where_rest_fails_inside_the_pod_the_watchdog_takes_graphql(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    rehearsal.faults.on("pod-rest-down")
    made = rent(cloud, make_spec(2.5))
    eventually(lambda: made.id not in rehearsal.fleet.ledger.pods)
    assert rehearsal.ledger()[-1].why == "deleted by its own key over GraphQL"


def test_the_watchdog_outlasts_an_outage_of_the_api(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    made = rent(cloud, make_spec(1))
    rehearsal.faults.on("everything-500", seconds=1.5)
    eventually(lambda: made.id not in rehearsal.fleet.ledger.pods)


@pytest.mark.parametrize(("fault", "status"), [("pod-key-blind", 404), ("pod-rest-down", 500)])
def test_other_faults_of_the_pods_key_refuse_it_too(cloud: RunPodCloud, rehearsal: Emulator, fault: str, status: int) -> None:
    rehearsal.faults.on(fault)
    record = rehearsal.fleet.get(rent(cloud, make_spec()).id)
    assert record is not None
    headers = {"Authorization": f"Bearer {record['key']}"}
    assert httpx.get(f"{rehearsal.url}/pods/{record['id']}", headers=headers, trust_env=False).status_code == status


def test_where_the_cloud_puts_no_key_into_the_pod_there_is_none(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    rehearsal.faults.on("pod-key-absent")
    record = rehearsal.fleet.get(rent(cloud, make_spec()).id)
    assert record is not None and "RUNPOD_API_KEY" not in rehearsal.cloud.container(rehearsal.fleet.machines, record).env


def test_a_pods_key_sees_and_ends_only_its_own_pod(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    mine, other = rent(cloud, make_spec()), rent(cloud, make_spec())
    record = rehearsal.fleet.get(mine.id)
    assert record is not None
    narrow = RunPodCloud.from_env({**rehearsal.env, "RUNPOD_API_KEY": record["key"]})
    assert narrow.get(mine.id) is not None
    for call in (lambda: narrow.get(other.id), lambda: narrow.terminate(other.id), narrow.list, narrow.costs):
        with pytest.raises(CloudRefused):
            call()
    narrow.terminate(mine.id)
    assert [pod.id for pod in cloud.list()] == [other.id]


def test_the_account_key_never_reaches_a_pod(cloud: RunPodCloud, rehearsal: Emulator, tmp_path: Path) -> None:
    info = reachable(cloud, rent(cloud, make_foreign()).id)
    looks: list[str] = []

    def forgotten() -> bool:
        """Look at all that a process of the pod can see; its start may still go on when its port is open."""
        looks.append(
            run(info, "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'; cat -r /workspace /root", tmp_path)
        )
        return "RUNPOD_API_KEY=rpa_pod_" not in looks[-1]

    eventually(forgotten)  # the watchdog holds it in memory alone
    assert all("RUNPOD_POD_ID=" in seen and rehearsal.key not in seen for seen in looks), "and what was seen is the pod's own"
    assert "BEGIN OPENSSH" not in looks[-1] and "SSH_HOST_ED25519_KEY" not in run(info, "env", tmp_path)


def test_the_made_up_gpus_answer_as_the_rented_ones(cloud: RunPodCloud, tmp_path: Path) -> None:
    info = reachable(cloud, rent(cloud, make_spec()).id)
    assert run(info, "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader", tmp_path) == "NVIDIA GeForce RTX 5090, 32768 MiB\n"
    assert run(info, "nvidia-smi --query-gpu=index,memory.used --format=csv,noheader,nounits", tmp_path) == "0, 0\n"
    assert run(info, "nvidia-smi -L", tmp_path).startswith("GPU 0: NVIDIA GeForce RTX 5090 (UUID: GPU-")


def test_ending_a_pod_kills_every_process_in_it(cloud: RunPodCloud, rehearsal: Emulator, tmp_path: Path) -> None:
    info = reachable(cloud, rent(cloud, make_spec()).id)
    mark = f"9{abs(hash(info.id)) % 10**6:06d}"
    run(info, f"setsid -f sleep {mark} >/dev/null 2>&1 </dev/null", tmp_path)
    assert mark in _processes()
    cloud.terminate(info.id)
    assert mark not in _processes()


def _processes() -> str:
    return subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout


def test_running_comes_before_the_port_and_the_port_before_the_right_one(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    rehearsal.faults.on("boot-stale-port", times=1, stale=1.0, ports_after=0.5)
    made = rent(cloud, make_spec())
    seen: list[tuple[str, int | None]] = []

    def look() -> bool:
        info = cloud.get(made.id)
        assert info is not None
        step = (info.raw_status, info.ssh.port if info.ssh else None)
        if not seen or seen[-1] != step:
            seen.append(step)
        return step[1] not in (None, 9)

    eventually(look)
    statuses = [status for status, _ in seen]
    assert statuses == sorted(statuses, key=["PROVISIONING", "STARTING", "RUNNING"].index)
    assert ("RUNNING", None) in seen and ("RUNNING", 9) in seen


def test_a_killed_container_is_started_again_and_billing_goes_on(cloud: RunPodCloud, rehearsal: Emulator, tmp_path: Path) -> None:
    info = reachable(cloud, rent(cloud, make_spec()).id)
    rehearsal.fleet.machines.end(info.id)
    eventually(lambda: rehearsal.fleet.existing(info.id)["restarts"] == 1)
    eventually(lambda: (cloud.get(info.id) or info).ssh not in (None, info.ssh))
    again = reachable(cloud, info.id)
    eventually(lambda: watchdog(again, tmp_path).get("armed"))
    assert [p.end for p in rehearsal.ledger() if p.pod == info.id] == [None]


@pytest.mark.parametrize(("fault", "status"), [("pod-dies", None), ("pod-exits", "exited")])
def test_a_pod_that_dies_is_not_paid_any_more(cloud: RunPodCloud, rehearsal: Emulator, fault: str, status: str | None) -> None:
    info = reachable(cloud, rent(cloud, make_spec()).id)
    rehearsal.faults.on(fault, times=1)
    eventually(lambda: (found := cloud.get(info.id)) is None or found.status == "exited")
    found = cloud.get(info.id)
    assert (found.status if found else None) == status
    eventually(lambda: [p.end is not None for p in rehearsal.ledger() if p.pod == info.id] == [True])


@pytest.mark.parametrize(
    ("fault", "status", "address"),
    [
        ("boot-stuck-provisioning", "PROVISIONING", False),
        ("boot-pull-fails", "STARTING", False),
        ("boot-error", "ERROR", False),
        ("boot-no-port", "RUNNING", False),
    ],
)
def test_a_pod_that_does_not_boot_stays_so_and_is_paid_until_it_is_ended(
    cloud: RunPodCloud, rehearsal: Emulator, fault: str, status: str, address: bool
) -> None:
    rehearsal.faults.on(fault, times=1)
    made = rent(cloud, make_spec())
    eventually(lambda: rehearsal.fleet.existing(made.id)["status"] == status)
    found = cloud.get(made.id)
    assert found is not None and found.raw_status == status and (found.ssh is not None) is address
    cloud.terminate(made.id)
    assert cloud.list() == [] and all(p.end is not None for p in rehearsal.ledger())


def test_stop_and_start_give_another_port_after_a_stale_one(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    info = reachable(cloud, rent(cloud, make_spec()).id)
    rehearsal.fleet.act(info.id, "stop")
    stopped = cloud.get(info.id)
    assert stopped is not None and stopped.status == "exited" and stopped.ssh is None and stopped.price_per_hour == 0
    rehearsal.fleet.act(info.id, "start")
    again = reachable(cloud, info.id)
    eventually(lambda: (cloud.get(info.id) or again).ssh != info.ssh)
    stretches = [p for p in rehearsal.ledger() if p.pod == info.id]
    assert len(stretches) == 2 and stretches[0].end is not None and stretches[1].end is None


def paid_twice(paid: list[Paid]) -> list[tuple[Paid, Paid]]:
    """Return pairs of different pods of one name that were paid at the same time."""
    pairs = itertools.combinations(paid, 2)
    return [(a, b) for a, b in pairs if a.name == b.name and a.pod != b.pod and b.start < (a.end if a.end is not None else float("inf"))]


def test_two_pods_of_one_name_are_both_made_and_the_books_call_it_paid_twice(cloud: RunPodCloud, rehearsal: Emulator) -> None:
    before = len(paid_twice(rehearsal.ledger()))
    spec = make_spec()
    rent(cloud, spec)
    rent(cloud, replace(spec))
    assert len(paid_twice(rehearsal.ledger())) == before + 1


def test_a_machine_that_does_not_start_is_tried_again_without_a_rush(cloud: RunPodCloud, rehearsal: Emulator, root: Path) -> None:
    made = rent(cloud, make_spec(env={"TWO": "lines\nhere"}))
    errors = root / "one/errors.log"
    eventually(errors.exists)
    time.sleep(0.5)
    assert errors.read_text().count(made.id) <= 2 and "line ends" in errors.read_text()
    cloud.terminate(made.id)
    assert cloud.list() == []
    errors.unlink()


def test_a_killed_emulator_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    """Killed as SIGKILL would: no word of goodbye, one delete half done, and a machine that nobody knows."""
    first = start(RUNPOD, root / "two", timing=QUICK, limits={"minute": 10**6}, env={})
    cloud = RunPodCloud.from_env(first.env)
    kept, half, forgotten = (reachable(cloud, rent(cloud, make_spec()).id) for _ in range(3))
    first.stop()
    record = first.fleet.ledger.pods[half.id]
    record["deleting"] = "killed in the middle"
    first.fleet.ledger.save(record)
    (root / "two/pods" / f"{forgotten.id}.json").unlink()
    second = start(RUNPOD, root / "two", timing=QUICK, limits={"minute": 10**6}, env={})
    try:
        assert second.env == first.env, "a client would not find it again"
        eventually(lambda: sorted(second.fleet.machines.all()) == [kept.id])
        again = RunPodCloud.from_env(second.env)
        assert [pod.id for pod in again.list()] == [kept.id]
        eventually(lambda: watchdog(kept, tmp_path).get("armed"))
        ends = {p.pod: p.end for p in second.ledger()}
        assert ends[kept.id] is None and ends[half.id] is not None
    finally:
        second.stop(end_pods=True)


def test_an_idle_pod_that_hears_of_no_controller_ends_long_before_its_lease(cloud: RunPodCloud) -> None:
    """The controller died while the pod booted: nobody calls, nothing runs, nothing lies here."""
    pod = rent(cloud, make_spec(3600, env={"TRAINYARD_HEARTBEAT_MINUTES": "0.02"}))
    eventually(lambda: cloud.get(pod.id) is None)
