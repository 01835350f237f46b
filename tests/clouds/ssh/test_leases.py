"""Leases on a machine of one's own, over a real SSH server: GPUs, ends, what cannot be asked."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.clouds.ssh.conftest import GPU, Yard, spec
from trainyard.clouds import absence
from trainyard.clouds.protocol import Offer, OfferQuery, PodInfo
from trainyard.clouds.ssh import OwnMachines
from trainyard.clouds.ssh.asking import ask
from trainyard.errors import CloudRefused, CloudUnknown, NoCapacity, Unreachable
from trainyard.leases import boot
from trainyard.rehearsal.ssh.host import play
from trainyard.remote.keys import host_key
from trainyard.sshlogin import SshLogin


def test_each_gpu_is_leased_once_and_who_has_them_is_told(yard: Yard) -> None:
    query = OfferQuery(gpus=("RTX 5090",))
    assert [(offer.id, offer.gpu, offer.region) for offer in yard.cloud.offers(query)] == [(f"gpu1:{GPU}", GPU, "gpu1")]
    first, second = yard.lease("one"), yard.lease("two")
    with yard.link(first) as one, yard.link(second) as two:
        assert [link.exec("echo $CUDA_VISIBLE_DEVICES").text.strip() for link in (one, two)] == ["0", "1"]
    with pytest.raises(NoCapacity, match=rf"GPU 0 by \S+ \({first.name}\) until .*GPU 1 by \S+ \({second.name}\) until"):
        yard.cloud.offers(query)
    with pytest.raises(NoCapacity, match=f"gpu1: .*{first.name}"):
        yard.lease("three")
    assert sorted(pod.id for pod in yard.cloud.list()) == sorted([first.id, second.id])
    yard.cloud.terminate(first.id)
    assert yard.cloud.get(first.id) is None
    assert yard.cloud.offers(query) != []
    assert yard.cloud.offers(replace(query, max_price=0.0, min_vram_gb=40)) == []


def test_a_pod_is_reached_through_its_machine_and_a_stranger_there_is_known(yard: Yard) -> None:
    pod = yard.lease(gpus=0)
    assert boot.door_of(pod) == "open"
    assert boot.door_of(replace(pod, host_key=_other_key())) == "stranger"
    with yard.link(pod) as link:
        assert link.exec('cd "$WORKSPACE" && echo made >file && cat file').text == "made\n"
        assert link.exec("nvidia-smi -L").rc != 0


def test_a_lease_that_was_made_longer_says_so_to_everybody(yard: Yard) -> None:
    pod = yard.lease(gpus=2)
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    yard.cloud.change_markers(pod.id, None, end)
    changed = yard.cloud.get(pod.id)
    assert changed is not None and changed.end == end
    with pytest.raises(NoCapacity, match=f"until {end:%Y-%m-%dT%H:%M:%SZ}"):
        _until(lambda: yard.cloud.offers(OfferQuery(gpus=(GPU,))))


def test_what_made_itself_a_daemon_ends_with_its_lease(yard: Yard) -> None:
    pod = yard.lease(gpus=0)
    with yard.link(pod) as link:
        link.exec("(setsid env -i sh -c '(sleep 424242 &) ; exec sleep 424242' >/dev/null 2>&1 &)")
    assert _sleepers() >= 1
    yard.cloud.terminate(pod.id)
    assert _sleepers() == 0
    yard.cloud.terminate(pod.id)


def test_two_that_want_one_gpu_at_once_get_it_once(yard: Yard) -> None:
    yard.lease("holder")
    got: list[PodInfo | Exception] = []

    def want(name: str) -> None:
        try:
            got.append(yard.lease(name))
        except NoCapacity as error:
            got.append(error)

    threads = [threading.Thread(target=want, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(answer).__name__ for answer in got) == ["NoCapacity", "PodInfo"]


def test_a_machine_that_cannot_be_asked_is_unknown_and_never_empty(yard: Yard) -> None:
    off = replace(yard.cloud.hosts[0], login=SshLogin(name="off", address="127.0.0.1", port=9, config=str(yard.config)))
    both = OwnMachines([yard.cloud.hosts[0], off])
    with pytest.raises(CloudUnknown, match=r"off cannot be reached: .*refused"):
        both.list()
    with pytest.raises(CloudUnknown):
        both.get("ty-x@off")
    with pytest.raises(CloudUnknown, match="none of the hosts"):
        both.get("ty-x@sold")
    proof = absence.prove(both, [absence.KnownPod("ty-x@off")], lambda pod: False, trusted_from=0.0, time=_fast(), sleep=lambda _: None)
    assert not proof.proved and "off" in str(proof)
    # What answers is offered all the same.
    assert [offer.region for query in (OfferQuery(gpus=(GPU,)), OfferQuery()) for offer in both.offers(query)] == ["gpu1", "gpu1"]


def test_an_unknown_host_key_is_refused_and_nothing_is_written_down(yard: Yard) -> None:
    known = yard.host.folder / "known_hosts"
    before = known.read_text()
    known.write_text("")
    try:
        with pytest.raises(CloudUnknown, match="Host key verification failed") as caught:
            yard.cloud.list()
        assert caught.value.hint is not None and f"ssh -F {yard.config} gpu1" in caught.value.hint
        assert known.read_text() == ""
    finally:
        known.write_text(before)


def test_what_a_machine_refuses_made_nothing(yard: Yard) -> None:
    host, pod = yard.cloud.hosts[0], spec()
    offer = Offer("gpu1:cpu", "ssh", None, 0, 0.0, "gpu1")
    with pytest.raises(CloudRefused, match="in the past"):
        yard.cloud.create(replace(pod, end=datetime.now(UTC) - timedelta(minutes=1)), offer)
    with pytest.raises(CloudRefused, match=r"its clock is .* ahead of"):
        ask(host, "create", {"now": 0.0})
    with pytest.raises(CloudRefused, match="there is no '/nowhere/python'"):
        ask(replace(host, python="/nowhere/python"), "list")
    with pytest.raises(CloudRefused, match="/proc/none"):
        ask(replace(host, folder="/proc/none"), "list")


def test_a_jump_host_is_on_the_way_to_the_machine_and_to_its_pods(yard: Yard) -> None:
    gate = play("gate", yard.folder / "gate")
    try:
        config = yard.folder / "ssh_config_jump"
        config.write_text(yard.host.ssh_config + "  ProxyJump gate\n" + gate.ssh_config)
        host = replace(yard.cloud.hosts[0], login=SshLogin(name="gpu1", config=str(config)))
        pod = OwnMachines([host]).create(spec(), Offer("gpu1:cpu", "ssh", None, 0, 0.0, "gpu1"))
        with yard.link(pod) as link:
            assert link.exec("echo there").text == "there\n"
    finally:
        gate.stop()
    with pytest.raises(Unreachable):
        yard.link(pod)
    # What the machine on the way said, not the complaint of the ssh that waited behind it.
    with pytest.raises(CloudUnknown, match=r"gpu1 cannot be reached: .*Connection refused"):
        OwnMachines([host]).list()


def _other_key() -> str:
    return host_key(b"another seed for another machine", "other").public


def _sleepers() -> int:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.count("sleep 424242")


def _fast() -> Callable[[], float]:
    ticks = itertools.count()
    return lambda: float(next(ticks))


def _until(ask_again: Callable[[], object]) -> None:
    """Ask until it raises: the guardian writes a lock's text when it has heard of the change."""
    for _ in range(50):
        ask_again()
        time.sleep(0.05)
