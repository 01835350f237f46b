"""The judge of the matrices sees what is wrong: planted leaks, double bills, overtime, secrets and damaged state."""

from __future__ import annotations

import time

from tests.faults import judge
from tests.faults.world import World
from trainyard.clouds.marker import PodName, new_id
from trainyard.rehearsal.kit import NewPod


def rent(world: World, name: str, end: str = "2099-01-01T00:00:00Z") -> str:
    world.emulator.faults.on("boot-stuck-provisioning")  # no machine is needed here
    request = {"name": name, "gpu": {"id": "NVIDIA RTX A4000"}, "env": {"TRAINYARD_END": end}}
    return str(world.emulator.fleet.create(NewPod(request, name, 1.0))["id"])


def name(lease: str, spec: str = "0" * 8) -> str:
    return str(PodName("f" * 10, lease, "pod", spec))


def test_it_sees_a_pod_that_is_left_unless_it_is_the_colleague_s(cloud_world: World) -> None:
    pod = rent(cloud_world, name(new_id()))
    assert pod in judge.left(cloud_world)[0] and judge.left(cloud_world, [pod]) == []
    cloud_world.clear()
    assert judge.left(cloud_world) == []


def test_it_sees_two_pods_of_a_lease_paid_at_once_also_of_another_spec_but_not_one_after_the_other(cloud_world: World) -> None:
    since, lease = time.time(), new_id()
    first = rent(cloud_world, name(lease, "a" * 8))
    cloud_world.clear()
    rent(cloud_world, name(lease, "b" * 8))
    assert judge.bills(cloud_world, since) == []
    second = rent(cloud_world, name(lease, "c" * 8))
    assert [found for found in judge.bills(cloud_world, since) if "paid twice" in found and second in found and first not in found]
    cloud_world.clear()


def test_it_sees_a_pod_that_nobody_of_ours_has_asked_for(cloud_world: World) -> None:
    since = time.time()
    rent(cloud_world, "somebody-elses")
    assert any("unknown pod" in found for found in judge.bills(cloud_world, since))
    cloud_world.clear()


def test_it_sees_a_pod_that_was_paid_beyond_its_lease(cloud_world: World) -> None:
    since = time.time()
    rent(cloud_world, name(new_id()), "2020-01-01T00:00:00Z")
    cloud_world.clear()
    assert any("outlived its lease" in found for found in judge.bills(cloud_world, since))
    assert judge.bills(cloud_world, since, kept_by_reaper=True) == []


def test_it_sees_secrets_in_files_on_command_lines_and_on_the_screen_and_a_state_that_cannot_be_read(cloud_world: World) -> None:
    yard = cloud_world.yard()
    (yard.home / "logs").mkdir(parents=True)
    log = yard.places.store / "data/bucket/logs/u/r/1/train.log"
    log.parent.mkdir(parents=True)
    for path in (yard.home / "logs" / "x.log", log):
        path.write_text("key hush-hush\n")
    found = judge.clear_text(yard, {"it": "hush-hush"}, [("cmd", "--key=hush-hush")], ["printed hush-hush"])
    assert len(found) == 4 and judge.clear_text(yard, {"it": "other"}, [("cmd",)], [""]) == []

    stacks = yard.places.state / ".pulumi" / "stacks" / "trainyard"
    stacks.mkdir(parents=True)
    (stacks / "runpod.json").write_text("{")
    assert judge.state(yard)
