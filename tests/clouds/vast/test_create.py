"""Creating an instance: what the request holds, and which answers are definite."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.clouds.runpod.scripted import Say
from tests.clouds.vast.conftest import END, FENCE, KEY, LEASE, NAME, STOP, Bench, make_spec, one, page, refused, row
from trainyard.clouds.protocol import Offer
from trainyard.clouds.vast.request import create_body, pod_env, start_script
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, NoCapacity, UnwantedPod
from trainyard.pod.boot import boot_command
from trainyard.remote.keys import host_key

Serve = Callable[..., Bench]
OFFER = Offer("1234", "vast", "RTX 4090", 1, 0.45)
BID = Offer("1234@0.21", "vast", "RTX 4090", 1, 0.23, spot=True)
MADE = Say(200, {"success": True, "new_contract": 77, "instance_api_key": "SECRET-OF-THE-INSTANCE"})
GONE = Say(200, {"instances": None})
DONE = Say(200, {"success": True})


def body_of(bench: Bench) -> dict[str, object]:
    return json.loads(bench.server.asked[0][3])  # type: ignore[no-any-return]


def test_a_create_takes_the_ask_and_carries_name_stop_and_end_where_they_can_be_changed(serve: Serve) -> None:
    bench = serve(MADE, one())
    info = bench.cloud.create(make_spec(), OFFER)
    body = body_of(bench)
    assert bench.asked == ["PUT /api/v0/asks/1234/", "GET /api/v0/instances/77/"]
    assert body["label"] == f"{NAME} 2026-12-01T02:30:00Z 2026-12-01T03:00:00Z" and len(str(body["label"])) < 1024
    assert (body["runtype"], body["cancel_unavail"], body["disk"]) == ("ssh_direct", True, 100) and "price" not in body
    assert (info.id, info.name, info.stop, info.end, info.price_per_hour) == ("77", NAME, STOP, END, 0.42)
    assert (info.fence_id, info.lease_id) == (FENCE, LEASE)


def test_a_bid_says_its_price(serve: Serve) -> None:
    bench = serve(MADE, one(is_bid=True))
    bench.cloud.create(make_spec(), BID)
    assert body_of(bench)["price"] == 0.21


def test_an_instance_that_does_not_show_yet_is_known_by_what_was_asked(serve: Serve) -> None:
    for late in (GONE, Say(500), Say(404, raw=b"<html>")):
        info = serve(MADE, late).cloud.create(make_spec(), OFFER)
        assert (info.id, info.name, info.lease_id, info.end, info.price_per_hour) == ("77", NAME, LEASE, END, None)
        assert info.host_key == host_key(b"s" * 32, NAME).public
        assert info.created is not None and (info.gpu, info.gpu_count) == ("RTX 4090", 1)


def test_the_answer_of_another_instance_is_never_taken_for_ours(serve: Serve) -> None:
    with pytest.raises(CloudUnknown, match="another instance"):
        serve(MADE, one(label="somebody's", extra_env=[])).cloud.create(make_spec(), OFFER)


def test_the_key_of_the_instance_is_kept_nowhere_and_told_nowhere(serve: Serve) -> None:
    assert "SECRET-OF-THE-INSTANCE" not in repr(serve(MADE, one()).cloud.create(make_spec(), OFFER))
    for body in ({"success": True, "instance_api_key": "SECRET-OF-THE-INSTANCE"}, {"instance_api_key": "SECRET-OF-THE-INSTANCE"}):
        with pytest.raises(CloudUnknown) as raised:
            serve(Say(200, body)).cloud.create(make_spec(), OFFER)
        assert "SECRET-OF" not in str(raised.value) + str(raised.value.hint)


def test_an_account_key_never_goes_to_a_pod(serve: Serve) -> None:
    bench = serve(MADE, one())
    with pytest.raises(CloudRefused, match="own key"):
        bench.cloud.create(make_spec(env={"A": f"x{KEY}y"}), OFFER)
    assert bench.asked == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(404, "invalid_args", "error 404/3603: no_such_ask Instance type by id 1 is not available."), NoCapacity),
        (refused(410, "no_such_ask", "error 410/3907: no_such_ask"), NoCapacity),
        (refused(400, "invalid_price"), NoCapacity),
        (refused(403, "invalid_args", "not your own"), NoCapacity),
        (refused(200, "no_such_ask"), NoCapacity),
        (refused(400, "invalid_args"), CloudRefused),
        (refused(402, "insufficient_credit"), CloudRefused),
        (refused(401, "auth_error"), CloudRefused),
        (refused(403, "auth_error"), CloudRefused),
        (refused(404, "auth_error"), CloudRefused),
        (Say(403, raw=b"<html>forbidden</html>"), CloudUnknown),
        (Say(404, raw=b"not here"), CloudUnknown),
        (Say(429, raw=b"<html>busy</html>"), CloudUnknown),
        (refused(500, "server_error"), CloudUnknown),
        (Say(502, raw=b"<html>"), CloudUnknown),
        (refused(408, "timeout"), CloudUnknown),
        (Say(499, {"msg": "gone"}), CloudUnknown),
        (Say(200, {"success": True}), CloudUnknown),
        (Say(200, {"success": True, "new_contract": None}), CloudUnknown),
        (Say(200, {"success": False, "msg": "something"}), CloudUnknown),
        (Say(200, raw=b""), CloudUnknown),
        (Say(200, raw=b'{"success": true, "new_con'), CloudUnknown),
        (Say(302, headers={"Location": "/x"}), CloudUnknown),
        (Say(reset=True), CloudUnknown),
    ],
)
def test_a_create_is_definite_exactly_when_nothing_was_made_and_is_sent_once(serve: Serve, answer: Say, error: type[CloudError]) -> None:
    bench = serve(answer)
    with pytest.raises(CloudError) as raised:
        bench.cloud.create(make_spec(), OFFER)
    assert type(raised.value) is error, raised.value
    assert len(bench.asked) == (1 if answer.status != 429 else len(bench.asked))


@pytest.mark.parametrize("turned_away", [Say(429, raw=b"API requests too frequent: endpoint threshold=4.5"), Say(429, {"detail": "x"})])
def test_a_create_turned_away_at_the_door_is_sent_again_after_its_interval(serve: Serve, turned_away: Say) -> None:
    bench = serve(turned_away, turned_away, MADE, one())
    assert bench.cloud.create(make_spec(), OFFER).id == "77"
    assert bench.asked.count("PUT /api/v0/asks/1234/") == 3 and bench.pace.slept[:2] == [4.5, 4.5]
    with pytest.raises(CloudRefused, match="HTTP 429"):
        serve(turned_away).cloud.create(make_spec(), OFFER)


@pytest.mark.parametrize("status", [200, 400, 410])
def test_an_error_that_carries_a_contract_has_made_an_instance_which_is_told_by_its_id(serve: Serve, status: int) -> None:
    bench = serve(Say(status, {"success": False, "error": "bid_too_low", "msg": "too low", "new_contract": 77}), DONE, GONE)
    with pytest.raises(UnwantedPod, match="instance 77 was made all the same") as raised:
        bench.cloud.create(make_spec(), BID)
    assert raised.value.pod_id == "77" and isinstance(raised.value, CloudUnknown) and len(bench.asked) == 1


def test_a_create_whose_answer_is_lost_is_found_by_its_label(serve: Serve) -> None:
    bench = serve(Say(reset=True), page(row()))
    with pytest.raises(CloudUnknown):
        bench.cloud.create(make_spec(), OFFER)
    assert [(pod.name, pod.lease_id) for pod in bench.cloud.list()] == [(NAME, LEASE)]


@pytest.mark.parametrize("offer", ["", "local", "1@", "1@x", "gpu|A|1"])
def test_an_offer_of_another_cloud_is_refused_before_anything_is_sent(serve: Serve, offer: str) -> None:
    bench = serve(MADE)
    with pytest.raises(CloudRefused):
        bench.cloud.create(make_spec(), Offer(offer, "x", "RTX 4090", 1, 1.0))
    assert bench.asked == []


def test_a_login_for_a_private_image_goes_into_the_request_and_into_no_message(serve: Serve) -> None:
    bench = serve(refused(400, "invalid_args", "bad image"))
    with pytest.raises(CloudRefused) as raised:
        bench.cloud.create(make_spec(registry="-u me -p PULLTOKEN ghcr.io"), OFFER)
    assert body_of(bench)["image_login"] == "-u me -p PULLTOKEN ghcr.io" and "PULLTOKEN" not in str(raised.value)
    with pytest.raises(CloudRefused) as raised:
        bench.cloud.create(make_spec(registry="me:PULLTOKEN"), OFFER)
    assert "PULLTOKEN" not in str(raised.value) + str(raised.value.hint) and len(bench.asked) == 1


def test_a_retry_asks_with_the_same_bytes() -> None:
    assert json.dumps(create_body(make_spec(), OFFER, "u")) == json.dumps(create_body(make_spec(), OFFER, "u"))


def test_the_start_fits_into_what_vast_takes_and_ports_are_asked_for_in_its_words() -> None:
    body = create_body(make_spec(boot=boot_command(), ports=("22/tcp", "8888/http")), OFFER, "https://console.vast.ai")
    env = body["env"]
    assert isinstance(env, dict) and len(str(body["onstart"])) <= 4048
    assert env["-p 8888:8888"] == "1" and "-p 22:22" not in env and env["VAST_URL"] == "https://console.vast.ai"
    assert all(isinstance(value, str) and "\n" not in value for value in env.values())


def test_nobodys_variables_override_the_marks() -> None:
    env = pod_env(make_spec(env={"TRAINYARD_LEASE_ID": "x", "TRAINYARD_START": "echo", "A": "1"}), "u")
    assert (env["TRAINYARD_LEASE_ID"], env["A"], env["TRAINYARD_POD_NAME"]) == (LEASE, "1", NAME) and env["TRAINYARD_START"] != "echo"


def start(tmp_path: Path, **more: str) -> Path:
    """Run an instance's start in a root of its own, as its onstart does."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True, exist_ok=True)
    script = gzip.decompress(base64.b64decode(start_script(make_spec(boot=("sh", "-c", "echo armed >&2")))))
    env = {k: v for k, v in pod_env(make_spec(env={"TOKEN_COUNT": "5"}), "u").items() if not k.startswith("-p")}
    env |= {"PATH": os.environ["PATH"], "TRAINYARD_ROOT": str(root), "WORKSPACE": str(tmp_path / "ws"), "CONTAINER_API_KEY": "k", **more}
    sshd = tmp_path / "sshd"
    sshd.write_text(f'#!/bin/sh\nenv > {tmp_path}/sshd.env\necho "$@" > {tmp_path}/sshd.args\n')
    sshd.chmod(0o755)
    done = subprocess.run(["sh"], input=script, env=env | {"TRAINYARD_SSHD": str(sshd)}, capture_output=True, timeout=20, check=True)
    assert done.stderr == b"armed\n", done.stderr
    return root


def test_at_its_start_a_pod_takes_its_host_key_its_owner_and_its_variables_without_its_own_keys(tmp_path: Path) -> None:
    root = start(tmp_path, PARTS="a\nb", LONG="x" * 2000)
    key = root / "etc/ssh/ssh_host_ed25519_key"
    assert key.read_text() == make_spec().host_key and key.stat().st_mode & 0o077 == 0
    assert (root / "root/.ssh/authorized_keys").read_text() == "ssh-ed25519 AAAA me\n"
    assert (root / "root/.no_auto_tmux").exists()
    seen = dict(line.split("=", 1) for line in (root / "etc/environment").read_text().splitlines())
    assert seen["TOKEN_COUNT"] == "5" and seen["TRAINYARD_LEASE_ID"] == LEASE
    hidden = {"CONTAINER_API_KEY", "SSH_HOST_ED25519_KEY", "TRAINYARD_START", "HOME", "PWD", "PARTS", "LONG"}
    assert not hidden & seen.keys()
    assert "CONTAINER_API_KEY=" not in (tmp_path / "sshd.env").read_text()


def test_an_ssh_server_that_runs_already_reads_its_new_key(tmp_path: Path) -> None:
    # Python, because sh cannot trap a signal that was ignored when it began, as under nohup.
    says = "import signal; signal.signal(signal.SIGHUP, lambda *_: print('read anew', flush=True)); print('up', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", says], stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None and daemon.stdout.readline() == "up\n"
        (tmp_path / "root/run").mkdir(parents=True)
        (tmp_path / "root/run/sshd.pid").write_text(f"{daemon.pid}\n")
        (tmp_path / "root/etc/ssh").mkdir(parents=True)
        (tmp_path / "root/etc/ssh/ssh_host_rsa_key").write_text("another's")
        root = start(tmp_path)
        assert daemon.stdout.readline() == "read anew\n"
    assert [path.name for path in (root / "etc/ssh").iterdir()] == ["ssh_host_ed25519_key"] and not (tmp_path / "sshd.args").exists()
