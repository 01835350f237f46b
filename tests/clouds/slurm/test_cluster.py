"""A job of a real Slurm as a pod: asked for once, entered, told stop and end, begun anew by the cluster, proved gone."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

import pytest

from tests.clouds.slurm.conftest import Clustered
from trainyard.clouds.absence import KnownPod, prove
from trainyard.clouds.protocol import OfferQuery
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, Unreachable, UserError
from trainyard.remote import jobs

MEET = """
import os, socket, time
node, place = os.environ["SLURMD_NODENAME"], (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if os.environ["SLURM_NODEID"] == "0":
    said = socket.create_server(place).accept()[0].recv(99).decode()
    print(node, "of", os.environ["SLURM_NNODES"], "met", said)
else:
    while True:
        try:
            socket.create_connection(place).sendall(node.encode())
            break
        except OSError:
            time.sleep(0.1)
"""
"""A program of which one task runs on each node."""


def test_a_job_is_a_pod_from_the_request_to_its_proved_end(slurmed: Clustered) -> None:
    spec, cloud = slurmed.spec(), slurmed.cloud()
    made = slurmed.create(spec)

    assert (made.name, made.lease_id, made.fence_id) == (spec.name, spec.lease_id, spec.fence_id)
    assert [pod.id for pod in slurmed.pods()] == [made.id]
    info = slurmed.wait(made.id, "running")
    assert info is not None and info.end is not None and spec.end is not None
    assert info.end < spec.end, "its hours begin when it starts, not when it may start at the latest"
    assert info.stop is not None and (info.end - info.stop).total_seconds() == 120
    with slurmed.enter(info) as inside:
        assert inside.exec("echo $SLURM_JOB_ID; cat; exit 3", b"\0bytes\n").stdout == f"{made.id.rpartition(':')[2]}\n\0bytes\n".encode()
        assert inside.exec("exit 3").rc == 3
        status = json.loads(inside.exec('cat "$WORKSPACE/.trainyard/watchdog/status.json"').stdout)
        assert status["armed"] and status["key_sees_pod"], "the watchdog ends the job through its socket"
        assert inside.exec("(sleep 60; echo) >/dev/null 2>&1 </dev/null & echo $!").rc == 0
    proof = prove(cloud, [KnownPod(made.id)])
    assert proof.proved, str(proof)
    assert not list(Path(info.workspace).parent.iterdir()), "nothing was committed because nothing was begun: nothing stays"


def test_what_a_step_starts_outlives_it_and_a_job_keeps_the_protocol(slurmed: Clustered) -> None:
    info = slurmed.wait(slurmed.create(slurmed.spec()).id, "running")
    assert info is not None
    job = f"{info.workspace}/job"
    with slurmed.enter(info) as inside:
        assert jobs.start(inside, job, "echo begun; sleep 300")
        assert not jobs.start(inside, job, "echo twice")
        assert jobs.status(inside, job).state == "running"
        assert jobs.stop(inside, job, grace=5).state == "exited"
        assert inside.exec(f"cat {job}/log").text.startswith("begun\n")
    slurmed.cloud().terminate(info.id)
    slurmed.wait(info.id, "gone")
    assert Path(job).is_dir(), "what is not committed stays"


def test_a_job_that_the_cluster_begins_anew_goes_on_from_its_newest_checkpoint(slurmed: Clustered) -> None:
    info = slurmed.wait(slurmed.create(slurmed.spec()).id, "running")
    assert info is not None
    place = Path(info.workspace)
    with slurmed.enter(info) as inside:
        inside.exec("mkdir -p $WORKSPACE/run $WORKSPACE/output/checkpoints/step-1 $WORKSPACE/output/checkpoints/step-2")
        (place / "run" / "recipe.json").write_text(json.dumps({"checkpoints": "checkpoints/step-*", "checkpoint_mark": "done"}))
        (place / "output" / "checkpoints" / "step-1" / "done").touch()
        command = 'echo "from ${TRAINYARD_RESUME##*/} with $GIVEN"; trap "exit 143" TERM; sleep 300 & wait'
        assert jobs.start(inside, str(place / "job"), command, {"GIVEN": "mine"})
    number = info.id.rpartition(":")[2]
    slurmed.cluster.run("scontrol", "requeue", number)
    slurmed.wait(info.id, "accepted")
    slurmed.cluster.run("scontrol", "update", f"job={number}", "StartTime=now")
    again = slurmed.wait(info.id, "running")
    assert again is not None and again.ssh is not None
    with slurmed.enter(again) as inside:
        assert jobs.status(inside, str(place / "job")).state == "running"
    for _ in range(100):
        log = (place / "job" / "log").read_text()
        if log.endswith("mine\n") and log.count("mine") == 2:
            break
        slurmed.pause(0.1)
    assert log.startswith("from  with mine\n") and log.endswith("from step-1 with mine\n"), log
    assert "the cluster has begun this job anew (1)" in log


def test_a_request_whose_answer_was_lost_is_known_by_its_name(slurmed: Clustered, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    cut.write_text(f'#!/bin/sh\n{slurmed.ssh} "$@" >/dev/null\nexit 255\n')
    cut.chmod(cut.stat().st_mode | stat.S_IXUSR)
    spec = slurmed.spec()
    offer = slurmed.cloud().offers(OfferQuery(options=spec.options))[0]

    with pytest.raises(CloudUnknown):
        slurmed.cloud(str(cut)).create(spec, offer)

    assert [pod.name for pod in slurmed.pods()] == [spec.name], "it was made, once, and is found"


def test_two_jobs_of_one_name_are_two_pods_with_a_folder_each(slurmed: Clustered) -> None:
    spec = slurmed.spec()
    made = [slurmed.create(spec), slurmed.create(spec)]

    assert sorted(pod.id for pod in slurmed.pods()) == sorted(pod.id for pod in made)
    assert len({pod.workspace for pod in made}) == 2


def test_what_the_cluster_would_not_take_is_refused_and_nothing_was_asked_for(slurmed: Clustered) -> None:
    spec = slurmed.spec(partition="nowhere")

    with pytest.raises(CloudRefused, match="partition"):
        slurmed.create(spec)

    assert slurmed.pods() == []
    assert not list((slurmed.folder / "jobs").iterdir())


def test_a_controller_that_is_down_says_nothing(slurmed: Clustered) -> None:
    made = slurmed.create(slurmed.spec())
    slurmed.cluster.stop("slurmctld")
    try:
        with pytest.raises(CloudError):
            slurmed.cloud().list()
        with pytest.raises(CloudUnknown):
            slurmed.cloud().get(made.id)
        with pytest.raises(CloudUnknown):
            slurmed.create(slurmed.spec())
    finally:
        slurmed.cluster.start("slurmctld")

    assert [pod.id for pod in slurmed.pods()] == [made.id]


def test_a_login_node_that_does_not_answer_says_nothing(slurmed: Clustered) -> None:
    nobody = slurmed.cloud("ssh -F /dev/null -o ConnectTimeout=1 -o HostName=127.0.0.1 -p 1")

    with pytest.raises(CloudError, match="refused"):
        nobody.list()
    with pytest.raises(CloudUnknown):
        nobody.get("trainyard-rehearsal:1")


def test_how_a_job_has_ended_is_told(slurmed: Clustered) -> None:
    info = slurmed.wait(slurmed.create(slurmed.spec()).id, "running")
    assert info is not None
    slurmed.cluster.run("scancel", info.id.rpartition(":")[2])

    slurmed.wait(info.id, "gone")

    assert (slurmed.cloud().boot_problem(info.id) or "").startswith("CANCELLED (it was cancelled)")
    assert slurmed.cloud().boot_problem(f"{info.id}99") is None, "a job that nobody has heard of has not ended"


def test_gpus_are_asked_for_by_the_types_that_the_cluster_gives_them(slurmed: Clustered) -> None:
    cloud = slurmed.cloud()

    offers = cloud.offers(OfferQuery(gpus=("A100", "H100"), gpu_count=2, options=slurmed.options()))

    assert [(offer.id.split("/", 2)[2], offer.gpu, offer.gpu_count) for offer in offers] == [("gpu:h100:2", "h100", 2)]
    assert cloud.offers(OfferQuery(gpus=("B200",), options=slurmed.options())) == []
    spec = slurmed.spec()
    info = slurmed.wait(cloud.create(spec, offers[0]).id, "running")
    assert info is not None and (info.gpu, info.gpu_count) == ("h100", 2)
    with slurmed.enter(info) as inside:
        assert inside.exec("echo $CUDA_VISIBLE_DEVICES").text == "0,1\n"


def test_tasks_on_several_nodes_meet_on_the_first_one(slurmed: Clustered) -> None:
    info = slurmed.wait(slurmed.create(slurmed.spec(nodes="2")).id, "running")
    assert info is not None
    with slurmed.enter(info) as inside:
        inside.exec('cat >"$WORKSPACE/meet.py"', MEET.encode())
        done = inside.exec('cd "$WORKSPACE" && echo "on $SLURMD_NODENAME" && exec srun python3 meet.py')

    first, second = slurmed.cluster.nodes
    assert (done.rc, done.text) == (0, f"on {first}\n{first} of 2 met {second}\n"), done


def test_the_watchdog_ends_its_job_when_the_lease_is_over(slurmed: Clustered) -> None:
    spec = slurmed.spec(minutes=0, rescue=1.2)
    info = slurmed.wait(slurmed.create(spec).id, "running")
    assert info is not None
    with slurmed.enter(info) as inside:
        end = "import socket,os; s=socket.socket(socket.AF_UNIX); s.connect(os.environ['TRAINYARD_POD_SOCKET']); s.sendall(b'end now\\n')"
        with contextlib.suppress(Unreachable):  # it may be gone before it says so
            inside.exec(f'python3 -c "{end}"')

    slurmed.wait(info.id, "gone")

    assert (slurmed.cloud().boot_problem(info.id) or "").startswith("COMPLETED")


def test_a_login_node_must_be_a_name() -> None:
    from trainyard.clouds.slurm.login import ssh_words

    with pytest.raises(UserError, match="is no login node"):
        ssh_words("-oProxyCommand=evil", os.environ)
