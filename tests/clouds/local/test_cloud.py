"""What a local pod is, as its caller and as a program in it see it."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.clouds.local import pods
from trainyard.clouds.local import LocalCloud, hardware, launch, sandbox
from trainyard.clouds.protocol import Cloud, Offer, OfferQuery
from trainyard.errors import CloudRefused, NoCapacity, UserError


def test_the_pod_is_listed_with_all_that_is_known_of_it(cloud: LocalCloud, isolation: str) -> None:
    wanted = pods.spec(stop=30, end=60)
    pod = pods.create(cloud, wanted)

    assert cloud.list() == [pod] == [cloud.get(pod.id)]
    assert (pod.name, pod.status, pod.fence_id, pod.lease_id) == (pods.NAME, "running", "0123456789", "abcdef0123")
    assert (pod.stop, pod.end, pod.price_per_hour, pod.region) == (wanted.stop, wanted.end, 0.0, "here")
    assert pod.host_key == pods.keys("host")[1]
    assert pod.created is not None and abs(pod.created - datetime.now(UTC)) < timedelta(seconds=30)
    assert (pod.workspace == "/workspace") == (isolation == "namespace")


def test_a_pod_that_an_older_version_made_is_listed_and_ended(cloud: LocalCloud, folder: Path, isolation: str) -> None:
    pod = pods.create(cloud, pods.spec())
    address = folder / "cloud" / "pods" / pod.id / "port"
    address.write_text(address.read_text().replace('"isolation"', '"rung"'))

    assert [(listed.id, listed.raw_status) for listed in cloud.list()] == [(pod.id, f"running ({isolation})")]
    cloud.terminate(pod.id)
    assert cloud.list() == []


def test_create_adopts_a_living_pod_of_the_same_name(cloud: LocalCloud) -> None:
    assert pods.create(cloud, pods.spec(end=60)).ssh == pods.create(cloud, pods.spec(end=90)).ssh


def test_a_name_can_be_used_again_after_its_pod_died(cloud: LocalCloud) -> None:
    first = pods.create(cloud, pods.spec())
    cloud.terminate(first.id)
    second = pods.create(cloud, pods.spec())

    assert pods.answers(second).startswith(b"SSH-2.0")
    assert not pods.is_open(first) or first.ssh == second.ssh


def test_a_program_sees_its_own_folders_and_the_environment_it_was_given(cloud: LocalCloud) -> None:
    odd = "two  words, \"quotes\", 'single', back\\slash, #hash, $HOME, ünïcode"
    pod = pods.create(cloud, pods.spec(env={"ODD": odd, "EMPTY": ""}, boot=("sh", "-c", 'echo "$ODD|$WORKSPACE"; pwd')))
    with pods.ssh(pod) as client:
        assert pods.run(client, 'echo "$ODD|${EMPTY-unset}"') == (0, f"{odd}|\n")
        assert pods.run(client, 'cd "$WORKSPACE" && pwd && touch "$HOME/a" "$WORKSPACE/b" && pwd -P') == (0, f"{pod.workspace}\n" * 2)
        assert pods.run(client, 'test -S "$TRAINYARD_POD_SOCKET" && echo socket; echo $TRAINYARD_LEASE_ID') == (0, "socket\nabcdef0123\n")
    folder = cloud.root / "pods" / pod.id
    assert (folder / "home" / "a").exists() and (folder / "workspace" / "b").exists()
    pods.wait_for(lambda: b"|" in b"".join(cloud.logs(pod.id)), "the boot command")
    assert b"".join(cloud.logs(pod.id)).decode() == f"{odd}|{pod.workspace}\n{pod.workspace}\n"


def test_files_given_at_create_are_there_and_its_bin_comes_first_in_path(cloud: LocalCloud) -> None:
    tool = b"#!/bin/sh\necho simulated\n"
    pod = pods.create(
        cloud, pods.spec(), files={"bin/nvidia-smi": tool, "home/.note": b"hello", "workspace/run/go.sh": b"#!/bin/sh\necho go\n"}
    )
    with pods.ssh(pod) as client:
        assert pods.run(client, 'nvidia-smi; cat ~/.note; echo; "$WORKSPACE/run/go.sh"') == (0, "simulated\nhello\ngo\n")
        assert pods.run(client, "bash -lc nvidia-smi") == (0, "simulated\n")


def test_boot_starts_again_after_each_exit_where_that_is_wanted(cloud: LocalCloud) -> None:
    once = pods.create(cloud, pods.spec("once", boot=("sh", "-c", "echo begun; exit 3")))
    again = pods.create(cloud, pods.spec("again", boot=("sh", "-c", "echo begun; exit 3")), boot_restart=True)
    pods.wait_for(lambda: b"".join(cloud.logs(again.id)).count(b"begun") >= 2, "the second start")
    assert b"".join(cloud.logs(once.id)).count(b"begun") == 1


def test_a_boot_command_that_cannot_run_is_named_in_the_log_and_the_pod_lives(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec(boot=("no-such-program",)))
    pods.wait_for(lambda: b"no-such-program" in b"".join(cloud.logs(pod.id)), "the log")
    assert pods.answers(pod).startswith(b"SSH-2.0")


def test_pods_side_by_side_do_not_see_each_other(cloud: LocalCloud, isolation: str) -> None:
    one, two = pods.create(cloud, pods.spec("one", boot=("sleep", "50.25"))), pods.create(cloud, pods.spec("two"))
    with pods.ssh(two) as client:
        pods.run(client, "echo mine > $HOME/file")
        _, seen = pods.run(client, f"cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[5]0.25'; ls {cloud.root}/pods 2>/dev/null")
    with pods.ssh(one) as client:
        assert pods.run(client, "cat $HOME/file")[0] != 0
    if isolation == "namespace":
        assert seen == "0\n"
    cloud.terminate(two.id)
    assert pods.answers(one).startswith(b"SSH-2.0")


def test_environments_are_shown_read_only_at_their_own_path_also_when_made_later(cloud: LocalCloud, isolation: str) -> None:
    pod = pods.create(cloud, pods.spec())
    (cloud.root / "envs" / "abc").mkdir()
    (cloud.root / "envs" / "abc" / "marker").write_text("ready")
    with pods.ssh(pod) as client:
        assert pods.run(client, f'test "$TRAINYARD_ENVS" = {cloud.root}/envs && cat "$TRAINYARD_ENVS/abc/marker"') == (0, "ready")
        if isolation == "namespace":
            code, said = pods.run(client, f"touch {cloud.root}/envs/abc/mine")
            assert code != 0 and "Read-only" in said
        assert pods.run(client, f"{os.path.realpath(os.sys.executable)} -c 'print(1)'") == (0, "1\n")  # type: ignore[attr-defined]


def test_a_pod_of_root_cannot_change_the_machine(cloud: LocalCloud, isolation: str, token: str) -> None:
    if isolation != "namespace" or os.getuid():
        pytest.skip("only root could, and only this isolation level keeps it from it")
    pod = pods.create(cloud, pods.spec())
    with pods.ssh(pod) as client:
        for path in ("/usr/x", "/etc/x", "/opt/x", "/var/lib/x"):
            assert "Read-only" in pods.run(client, f"touch {path}")[1]
        own = [f"{folder}/{token}" for folder in ("/tmp", "/root", "/workspace", "/dev/shm")]
        assert pods.run(client, " && ".join(f"echo x > {path}" for path in own)) == (0, "")
    assert not any(Path(path).exists() for path in own)


def test_a_pods_first_process_is_polite_and_its_processors_are_all_there(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec())
    with pods.ssh(pod) as client:
        assert pods.run(client, "nice; nproc") == (0, f"{min(19, os.nice(0) + 5)}\n{len(os.sched_getaffinity(0))}\n")


def test_a_socket_path_longer_than_a_socket_may_have_works_too(isolation: str, folder: Path) -> None:
    cloud = LocalCloud(folder / ("long-" + "x" * 120))
    pod = pods.create(cloud, pods.spec())
    with pods.ssh(pod) as client:
        code, said = pods.say(client, "lease")
        assert code == 0 and '"end": ' in said
    cloud.terminate(pod.id)
    assert pods.leftovers(cloud) == []


def test_no_program_of_a_pod_may_trace_what_has_closed_itself(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec())
    with pods.ssh(pod) as client:
        code, said = pods.run(client, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status")
    rights = [int(line.split()[1], 16) >> 19 & 1 for line in said.splitlines()]
    assert code == 0 and rights[:2] == [0, 0], "CAP_SYS_PTRACE: a pod's watchdog keeps in its memory what is not for the training"


def test_a_deep_and_locked_tree_is_removed(cloud: LocalCloud) -> None:
    pod = pods.create(cloud, pods.spec())
    deep = (
        "import os\nfor i in range(600):\n os.mkdir('d'); os.chdir('d')\n"
        "os.chdir(os.environ['WORKSPACE']); os.mkdir('shut'); os.mkdir('shut/in'); os.chmod('shut', 0)"
    )
    with pods.ssh(pod) as client:
        assert pods.run(client, f'cd "$WORKSPACE"; python3 - <<E\n{deep}\nE') == (0, "")
    cloud.terminate(pod.id)
    pods.wait_for(lambda: pods.leftovers(cloud) == [], "the removal behind it")


@pytest.mark.parametrize("name", ["../x", "", ".new-x", "a/b", "x" * 200, "a b"])
def test_a_name_that_could_lead_elsewhere_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    cloud = LocalCloud(tmp_path / "c")
    with pytest.raises(CloudRefused):
        pods.create(cloud, pods.spec(name))
    assert cloud.get(name) is None
    cloud.terminate(name)
    assert cloud.list() == [] and not (tmp_path / "c" / "pods").exists()


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    cloud = LocalCloud(tmp_path / "c")
    for wanted in (
        pods.spec(end=-1),
        pods.spec(env={"A": "two\nlines"}),
        pods.spec(env={"A=B": "x"}),
        dataclasses.replace(pods.spec(), host_key="no key"),
    ):
        with pytest.raises(CloudRefused):
            pods.create(cloud, wanted)
    for path in ("etc/passwd", "home/../../x", "bin"):
        with pytest.raises(UserError):
            pods.create(cloud, pods.spec(), files={path: b""})
    assert not (tmp_path / "c" / "pods").exists()


def test_a_pod_that_is_gone_is_none_and_ending_it_again_is_success(tmp_path: Path) -> None:
    cloud = LocalCloud(tmp_path / "c")
    assert cloud.get("nothing") is None
    cloud.terminate("nothing")
    with pytest.raises(CloudRefused, match="no local pod"):
        cloud.change_markers("nothing", None, None)
    assert list(cloud.logs("nothing")) == [] and cloud.costs() == []


def test_it_is_a_cloud(tmp_path: Path) -> None:
    cloud: Cloud = LocalCloud(tmp_path)
    assert cloud.capabilities.deadline and cloud.capabilities.self_terminate and cloud.capabilities.listings == 1


def test_the_price_can_be_set_to_exercise_cost_and_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_PRICE", "1.25")
    cloud = LocalCloud(tmp_path)
    assert [offer.price_per_hour for offer in cloud.offers(OfferQuery())] == [1.25]
    assert cloud.offers(OfferQuery(max_price=1.0)) == []
    monkeypatch.setenv("TRAINYARD_LOCAL_PRICE", "cheap")
    with pytest.raises(UserError, match="cheap"):
        cloud.offers(OfferQuery())


def test_a_price_is_part_of_the_pod(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_PRICE", "0.5")
    pod = pods.create(cloud, pods.spec())
    assert pod.price_per_hour == 0.5
    assert [(item.kind, item.id, item.per_hour, item.ours) for item in cloud.costs()] == [("pod", pod.id, 0.5, True)]


def test_gpus_are_offered_as_they_are_asked_for_and_only_while_free() -> None:
    have = hardware.parse(
        "0, NVIDIA GeForce RTX 4090, 24564\n1, NVIDIA GeForce RTX 4090, 24564\n2, NVIDIA H100 80GB HBM3, 81559\nnonsense\n"
    )
    assert [gpu.index for gpu in have] == [0, 1, 2]

    def ask(*wanted: str, count: int = 1, used: frozenset[int] = frozenset()) -> list[tuple[str | None, int]]:
        return [(offer.gpu, offer.gpu_count) for offer in hardware.offers(OfferQuery(gpus=wanted, gpu_count=count), have, set(used))]

    assert ask("H100", "RTX_4090") == [("NVIDIA H100 80GB HBM3", 1), ("NVIDIA GeForce RTX 4090", 1)]
    assert ask("NVIDIA GeForce RTX 4090", count=2) == [("NVIDIA GeForce RTX 4090", 2)]
    assert ask("RTX 4090", count=2, used=frozenset({0})) == []
    assert ask("A100") == []
    assert ask("H100", "H100 80GB") == [("NVIDIA H100 80GB HBM3", 1)]


def test_gpus_are_given_to_one_pod_each(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: [hardware.GpuDevice(0, "H100", 80.0), hardware.GpuDevice(1, "H100", 80.0)])
    offer = cloud.offers(OfferQuery(gpus=("H100",)))[0]
    seen = []
    for name in ("one", "two"):
        with pods.ssh(cloud.create(pods.spec(name), offer)) as client:
            seen.append(pods.run(client, "echo $CUDA_VISIBLE_DEVICES")[1].strip())
    assert seen == ["0", "1"]
    assert cloud.offers(OfferQuery(gpus=("H100",))) == []
    with pytest.raises(NoCapacity):
        cloud.create(pods.spec("three"), Offer("gpu:H100", "local", "H100", 1, 0.0))
    cloud.terminate("one")
    assert cloud.create(pods.spec("three"), offer).gpu == "H100"


def test_doctor_says_which_isolation_level_and_why(cloud: LocalCloud, isolation: str) -> None:
    rows = {name: (fine, text) for name, fine, text in cloud.doctor()}
    assert rows["local pods"][0] and f"isolation '{isolation}'" in rows["local pods"][1]
    assert ("asyncssh" in rows["local ssh server"][1]) == (isolation == "process" or not launch.find_sshd())


def test_a_misspelt_isolation_level_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_ISOLATION", "docker")
    with pytest.raises(UserError, match="docker"):
        pods.create(LocalCloud(tmp_path / "c"), pods.spec())


def test_a_tree_can_be_removed_by_two_at_once(tmp_path: Path) -> None:
    import threading

    for number in range(20):
        (tmp_path / f"a/b{number}/c").mkdir(parents=True)
    threads = [threading.Thread(target=sandbox.remove_tree, args=(str(tmp_path / "a"),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not (tmp_path / "a").exists()


def test_a_file_that_comes_while_its_tree_is_removed_goes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    late, rmdir = [tmp_path / "a/b/late", tmp_path / "a/late"], os.rmdir

    def removed(name: str, *, dir_fd: int | None) -> None:
        for path in [path for path in late if path.parent.name == Path(name).name]:
            late.remove(path)
            path.touch()
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", removed)
    assert sandbox.remove_tree(str(tmp_path / "a"))
    assert not late
    assert not (tmp_path / "a").exists()


def test_a_volume_is_a_folder_of_this_machine_that_the_pod_may_write_to(cloud: LocalCloud, tmp_path: Path) -> None:
    volume = tmp_path / "cache"
    volume.mkdir()
    pod = pods.create(cloud, dataclasses.replace(pods.spec(), volume=str(volume)))

    assert pod.volume == str(volume)
    with pods.ssh(pod) as client:
        assert pods.run(client, 'echo kept >"$TRAINYARD_VOLUME/note" && echo "$HF_HOME"') == (0, f"{volume}/huggingface\n")
    cloud.terminate(pod.id)
    assert (volume / "note").read_text() == "kept\n"
    with pytest.raises(CloudRefused, match="is no folder of this machine"):
        pods.create(cloud, dataclasses.replace(pods.spec(), volume=str(tmp_path / "nowhere")))
