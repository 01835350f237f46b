"""The SSH door of a pod, whichever server stands behind it."""

from __future__ import annotations

import io
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fabric
import paramiko
import pytest

from tests.clouds.local import pods
from trainyard.clouds.local import LocalCloud, launch, registry
from trainyard.clouds.protocol import PodInfo

SERVERS = [("namespace", "sshd"), ("namespace", "asyncssh"), ("process", "asyncssh")]


@pytest.fixture(params=SERVERS, ids="-".join, scope="module")
def served(request: pytest.FixtureRequest) -> Iterator[tuple[str, PodInfo]]:
    """Return a server and a running pod behind it, for all tests here; skipped loudly where this machine lacks one."""
    name, server = request.param
    if why := pods.refused(name):
        pytest.skip(f"isolation '{name}' is refused on this machine: {why}")
    if server == "sshd" and not launch.find_sshd():
        pytest.skip("no sshd is installed on this machine")
    with tempfile.TemporaryDirectory(prefix="tylc") as folder, pytest.MonkeyPatch.context() as patch:
        if server == "asyncssh":
            patch.setattr(launch, "find_sshd", lambda: "")
        patch.setenv("TRAINYARD_LOCAL_ISOLATION", name)
        cloud = LocalCloud(Path(folder) / "cloud")
        # What the boot command sees is noted, for the test of who sees the pod's keys.
        boot = ("sh", "-c", 'env >"$WORKSPACE/boot-env"; sleep 300')
        pod = pods.create(
            cloud, pods.spec(end=300, boot=boot, env={"RUNPOD_API_KEY": "rpa_s3cret", "SSH_HOST_ED25519_KEY": "s3cret", "MINE": "m"})
        )
        address = registry.read(cloud.root / "pods" / pod.id, "port")
        assert address is not None and (address["isolation"], address["server"]) == (name, server)
        yield server, pod
        cloud.terminate(pod.id)
        assert pods.leftovers(cloud) == [] and not pods.is_open(pod)


@pytest.fixture
def pod(served: tuple[str, PodInfo]) -> PodInfo:
    """Return the running pod."""
    return served[1]


def test_only_the_given_key_opens_and_only_the_given_host_key_is_shown(pod: PodInfo) -> None:
    with pytest.raises(paramiko.AuthenticationException), pods.ssh(pod, key="stranger"):
        pass
    assert pod.ssh is not None
    with paramiko.Transport(socket.create_connection((pod.ssh.host, pod.ssh.port))) as transport:
        transport.start_client(timeout=20)
        shown = transport.get_remote_server_key()
        assert f"{shown.get_name()} {shown.get_base64()}" == pod.host_key
        with pytest.raises(paramiko.SSHException):
            transport.auth_none("root")
        with pytest.raises(paramiko.SSHException):
            transport.auth_password("root", "")


def test_a_session_sees_the_pods_variables_but_none_of_its_keys(pod: PodInfo) -> None:
    with pods.ssh(pod) as client:
        pods.wait_for(lambda: pods.run(client, 'grep -q s3cret "$WORKSPACE/boot-env"')[0] == 0, "the boot command")
        code, seen = pods.run(client, "env; cat /proc/$PPID/environ /proc/self/environ")
    assert code == 0 and "MINE=m" in seen and "TRAINYARD_POD_SOCKET=" in seen
    assert "s3cret" not in seen


def test_fabric_logs_in_and_runs(pod: PodInfo) -> None:
    assert pod.ssh is not None
    key = paramiko.Ed25519Key.from_private_key(io.StringIO(pods.keys("user")[0]))
    options = {"pkey": key, "allow_agent": False, "look_for_keys": False, "banner_timeout": 20}
    with fabric.Connection(pod.ssh.host, user=pod.ssh.user, port=pod.ssh.port, connect_kwargs=options) as link:
        done = link.run("echo $WORKSPACE; exit 3", hide=True, warn=True, in_stream=False)
    assert (done.stdout, done.return_code) == (f"{pod.workspace}\n", 3)


def test_exit_codes_signals_and_the_end_of_input_arrive(pod: PodInfo) -> None:
    with pods.ssh(pod) as client:
        assert pods.run(client, "exit 42") == (42, "")
        assert pods.run(client, "wc -c", b"x" * 300_000) == (0, "300000\n")
        assert pods.run(client, "kill -KILL $$")[0] == -1
        assert pods.run(client, "echo out; echo err >&2") in ((0, "out\nerr\n"), (0, "err\nout\n"))
        assert pods.run(client, "no-such-program")[0] == 127


def test_a_terminal_works(pod: PodInfo) -> None:
    with pods.ssh(pod) as client:
        _, output, _ = client.exec_command("tty && stty size && test -t 0 && exit 7", get_pty=True)
        text = output.read().decode()
        assert output.channel.recv_exit_status() == 7 and text.startswith("/dev/pts/") and "24 80" in text
        shell = client.invoke_shell()
        shell.sendall(b"echo $((6*7)) in $HOME; exit\n")
        data = b""
        while chunk := shell.recv(4096):
            data += chunk
        assert b"42 in" in data


def test_files_travel_whole_in_both_directions(pod: PodInfo) -> None:
    data = os.urandom(3 * 1024 * 1024)
    with pods.ssh(pod) as client:
        with client.open_sftp() as files:
            files.putfo(io.BytesIO(data), f"{pod.workspace}/big")
            back = io.BytesIO()
            files.getfo(f"{pod.workspace}/big", back)
            assert back.getvalue() == data
            assert files.normalize(".") == pods.run(client, "echo -n $HOME")[1]
        channel = client.get_transport().open_session()
        channel.exec_command(f"cat {pod.workspace}/big")
        with channel.makefile("rb") as output:
            assert output.read() == data


def test_a_port_is_forwarded(pod: PodInfo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pods.ssh(pod) as client:
        thread = threading.Thread(target=_answer_one, args=(server,))
        thread.start()
        channel = client.get_transport().open_channel("direct-tcpip", server.getsockname(), ("127.0.0.1", 1))
        assert channel.recv(64) == b"through"
        thread.join()


def test_forty_channels_at_once_keep_their_input_and_exit_code_apart(pod: PodInfo) -> None:
    with pods.ssh(pod) as client, ThreadPoolExecutor(40) as pool:
        got = list(pool.map(lambda n: pods.run(client, f"read x; sleep .3; echo $x; exit {n}", f"{n}\n".encode()), range(40)))
    assert got == [(n, f"{n}\n") for n in range(40)]


def test_a_cut_connection_ends_no_job(pod: PodInfo, token: str) -> None:
    with pods.ssh(pod) as client:
        assert pods.run(client, f"setsid sh -c 'sleep 60; : {token}' </dev/null >/dev/null 2>&1 &") == (0, "")
        # In the middle of an exec a process has no command line to be found by.
        pods.wait_for(lambda: pods.living(token), "the job to begin")
        client.get_transport().sock.close()
    with pods.ssh(pod) as client:
        assert pods.run(client, "echo back") == (0, "back\n")
    assert pods.living(token), "the job died with its connection"


def test_a_server_that_a_program_killed_serves_again(served: tuple[str, PodInfo]) -> None:
    server, pod = served
    if server == "sshd":
        pytest.skip("sshd runs one process a connection")
    pods.wait_for(lambda: pods.answers(pod), "the server")
    with pods.ssh(pod) as client:
        pods.run(client, "kill -9 $PPID")
    pods.wait_for(lambda: _logs_in(pod), "the next server")


def _answer_one(server: socket.socket) -> None:
    link, _ = server.accept()
    with link:
        link.sendall(b"through")


def _logs_in(pod: PodInfo) -> bool:
    try:
        with pods.ssh(pod) as client:
            return pods.run(client, "echo again") == (0, "again\n")
    except (paramiko.SSHException, OSError):
        return False
