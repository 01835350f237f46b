"""One primitive over two transports: true exit codes, all bytes, a pinned host key, and no hanging on dead links."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from bench.late import late
from tests.remote.proxy import Proxy
from tests.remote.quiet import is_quiet
from tests.remote.sshd import Server
from trainyard.errors import HostKeyChanged, Unreachable, UserError
from trainyard.remote.keys import fingerprint, host_key, new_ssh_key
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import (
    Address,
    CommandResult,
    LocalTransport,
    NoAnswer,
    SshTransport,
    Transport,
    connect,
    dial,
    with_environment,
)
from trainyard.remote.watch import Hearing


def test_streams_and_exit_code_are_those_of_the_command(transport: Transport) -> None:
    assert transport.exec("echo out; echo err >&2; exit 42") == CommandResult(42, b"out\n", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_every_exit_code_arrives(transport: Transport, code: int) -> None:
    assert transport.exec(f"exit {code}").rc == code


@pytest.mark.parametrize("command", ["sh -c 'kill -s TERM $$'", "sleep 9 & kill -s TERM $!; wait $!"])
def test_a_signal_is_an_exit_code_as_in_sh(transport: Transport, command: str) -> None:
    assert transport.exec(command).rc == 143


def test_a_shell_that_is_killed_is_a_failed_command_not_a_lost_link(transport: Transport) -> None:
    assert transport.exec("kill -s KILL $$") == CommandResult(137, b"", b"")
    assert transport.exec("echo still here").stdout == b"still here\n"


def test_bytes_go_through_unchanged_in_both_directions(transport: Transport) -> None:
    data = bytes(range(256)) * 100
    assert transport.exec("cat", data).stdout == data


def test_more_input_than_the_window_and_more_output_at_once_do_not_block(transport: Transport) -> None:
    data = os.urandom(1 << 20) * 18
    result = transport.exec("tee /dev/stderr", data)
    assert result.stdout == data and result.stderr == data


def test_a_full_disk_of_whoever_takes_the_output_is_no_lost_link(transport: Transport) -> None:
    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        transport.exec("echo out; sleep 5", on_stdout=full)
    assert transport.exec("echo still here").stdout == b"still here\n"


def test_input_is_read_from_a_stream_as_it_is_sent(transport: Transport) -> None:
    assert transport.exec("wc -c", io.BytesIO(b"x" * 3_000_000)).stdout.strip() == b"3000000"


def test_a_command_that_does_not_read_its_input_is_no_error(transport: Transport) -> None:
    assert transport.exec("exit 3", b"x" * 5_000_000).rc == 3


def test_without_input_a_reading_command_sees_the_end(transport: Transport) -> None:
    assert transport.exec("cat; echo end").stdout == b"end\n"


def test_output_can_be_taken_as_it_comes(transport: Transport) -> None:
    pieces: list[bytes] = []
    result = transport.exec("echo 1; sleep 0.2; echo 2", on_stdout=pieces.append)
    assert pieces == [b"1\n", b"2\n"] and result.stdout == b""


def test_a_deadline_is_kept_and_the_connection_lives_on(transport: Transport) -> None:
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match=r"did not end within 0\.3 s"):
        transport.exec("sleep 60", timeout=0.3)
    assert time.monotonic() - begun < 40
    assert transport.exec("echo yes", timeout=60).stdout == b"yes\n"


def test_many_commands_at_once_keep_their_own_input_and_code(transport: Transport) -> None:
    def one(number: int) -> bool:
        text = str(number).encode()
        return transport.exec(f"sleep 0.05; cat; exit {number}", text) == CommandResult(number, text, b"")

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(one, range(40)))


def test_values_of_variables_are_data(transport: Transport, pod: Path) -> None:
    value = f"a b; touch {pod}/pwned; $(touch {pod}/pwned) ' \" \\ \n"
    assert transport.exec(with_environment('printf %s "$X"', {"X": value})).stdout == value.encode()
    assert not (pod / "pwned").exists()
    with pytest.raises(ValueError, match="not a variable name"):
        with_environment("true", {"X;reboot": "1"})


def test_a_command_whose_login_shell_prints_nothing_runs_under_sh(ssh: SshTransport) -> None:
    assert b"sh" in ssh.exec("ps -o comm= -p $$ 2>/dev/null || echo sh").stdout


def test_closing_twice_is_harmless_and_a_closed_transport_is_unreachable(server: Server) -> None:
    transport = connect(server.address)
    transport.close()
    transport.close()
    with pytest.raises(Unreachable):
        transport.exec("true")


# ---- who is at the other end


def test_another_host_key_is_refused_before_anything_is_sent(server: Server) -> None:
    other = host_key(b"y" * 32, "other").public
    with pytest.raises(HostKeyChanged) as caught:
        connect(replace(server.address, host_key=other))
    assert fingerprint(other) in str(caught.value) and fingerprint(server.address.host_key or "") in str(caught.value)
    assert caught.value.exit_code == 5


def test_a_key_of_another_kind_is_refused_too(server: Server) -> None:
    ecdsa = paramiko.ECDSAKey.generate()
    with pytest.raises(HostKeyChanged):
        connect(replace(server.address, host_key=f"{ecdsa.get_name()} {ecdsa.get_base64()}"))


def test_without_a_known_key_the_connection_is_refused_unless_somebody_records_it(server: Server) -> None:
    unknown = replace(server.address, host_key=None)
    with pytest.raises(Unreachable, match="none is taken on trust"):
        connect(unknown)
    recorded: list[str] = []
    connect(unknown, on_new_host_key=recorded.append).close()
    assert recorded == [server.address.host_key]
    connect(replace(unknown, host_key=recorded[0])).close()


def test_who_records_a_key_can_refuse_it(server: Server) -> None:
    def refuse(public: str) -> None:
        raise HostKeyChanged("not the recorded one")

    with pytest.raises(HostKeyChanged, match="not the recorded one"):
        connect(replace(server.address, host_key=None), on_new_host_key=refuse)


def test_no_known_hosts_file_is_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    connect(replace(server.address, host_key=None), on_new_host_key=lambda key: None).close()
    connect(server.address).close()
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_not_allowed_is_named(server: Server, tmp_path: Path) -> None:
    key = tmp_path / "stranger"
    key.write_text(new_ssh_key()[0])
    with pytest.raises(Unreachable, match=r"refuses the key .*stranger"):
        connect(replace(server.address, key_file=key))


def test_a_key_file_that_is_missing_or_no_key_is_the_users_mistake(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        connect(replace(server.address, key_file=tmp_path / "none"))
    for damaged in ("no key\n", new_ssh_key()[0][:200], "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"):
        (tmp_path / "bad").write_text(damaged)
        with pytest.raises(UserError, match="is not a private key, or is damaged"):
            connect(replace(server.address, key_file=tmp_path / "bad"))


def test_the_agent_is_left_alone_when_a_key_file_is_given(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An agent that cannot even be asked would be noticed: the socket is a plain file.
    (tmp_path / "agent").write_text("")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    connect(server.address).close()


def test_the_users_ssh_config_is_followed_through_a_jump_host_with_both_keys_checked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, config = server.address, tmp_path / ".ssh/config"
    config.parent.mkdir()
    jump = f"Host jump\n HostName 127.0.0.1\n Port {address.port}\n User {address.user}\n IdentityFile {address.key_file}\n"
    config.write_text(f"Host pod.example\n HostName 127.0.0.1\n ProxyJump jump\n{jump}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    behind = replace(address, host="pod.example")
    with pytest.raises(Unreachable):  # the jump host is not in known_hosts
        connect(behind)
    (tmp_path / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{address.port} {address.host_key}\n")
    with connect(behind) as transport:
        assert transport.exec("echo through").stdout == b"through\n"
    with pytest.raises(HostKeyChanged):
        connect(replace(behind, host_key=host_key(b"y" * 32, "other").public))


def test_a_key_is_shown_with_the_request_to_log_in_and_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, send = list[threading.Thread](), Hearing.send_message

    def noted(self: Hearing, data: paramiko.Message) -> None:
        if data.asbytes()[0] == paramiko.common.MSG_USERAUTH_REQUEST:
            shown.append(threading.current_thread())
        send(self, data)

    monkeypatch.setattr(Hearing, "send_message", noted)
    connect(server.address).close()
    # Not by the one who reads the answers.
    assert shown == [threading.current_thread()]


def test_a_broken_ssh_config_is_the_users_mistake(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Match nonsense\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="ssh_config cannot be read"):
        connect(replace(server.address, host="pod.example"))


# ---- links that break


def test_nothing_listens_there(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        connect(replace(server.address, port=1), timeout=2)
    assert capfd.readouterr() == ("", "")


def test_a_server_that_never_speaks_is_given_up(proxy: Proxy) -> None:
    proxy.swallow(True)
    begun = time.monotonic()
    with pytest.raises(Unreachable):
        connect(proxy.address, timeout=0.5)
    assert time.monotonic() - begun < 12


def test_a_cut_during_a_command_is_unreachable_not_a_failed_command(proxy: Proxy, capfd: pytest.CaptureFixture[str]) -> None:
    with connect(proxy.address) as transport:
        with pytest.raises(Unreachable, match="lost"):
            transport.exec("echo begin; sleep 30", on_stdout=lambda data: proxy.cut())
        with pytest.raises(Unreachable):
            transport.exec("true")
    assert capfd.readouterr() == ("", "")


def test_a_black_hole_behind_a_living_tcp_connection_is_noticed(proxy: Proxy) -> None:
    with connect(proxy.address, silence=0.9) as transport:
        begun = time.monotonic()
        with pytest.raises(Unreachable):
            transport.exec("echo begin; sleep 60", on_stdout=lambda data: proxy.swallow(True))
        assert time.monotonic() - begun < 40


def test_a_black_hole_is_noticed_while_sending_too(proxy: Proxy) -> None:
    class Endless:
        """Input that never ends and swallows the link after the first piece."""

        def read(self, count: int = -1, /) -> bytes:
            proxy.swallow(True)
            return b"x" * 65536

    with connect(proxy.address, silence=0.9) as transport, pytest.raises(Unreachable):
        transport.exec("cat >/dev/null", Endless())


def test_a_silent_command_on_a_healthy_link_is_not_given_up(ssh: SshTransport, server: Server) -> None:
    with connect(server.address, silence=1.2) as transport:
        assert transport.exec("sleep 3; echo done").stdout == b"done\n"


def test_reconnecting_connects_on_first_use_and_after_each_loss(proxy: Proxy) -> None:
    with Reconnecting(lambda: connect(proxy.address), "pod") as transport:
        assert proxy.accepted == 0
        assert transport.exec("echo 1").stdout == b"1\n"
        with pytest.raises(Unreachable, match="connection was lost"):
            transport.exec("echo begin; sleep 30", on_stdout=lambda data: proxy.cut())
        assert transport.exec("echo 3").stdout == b"3\n"
        assert proxy.accepted == 2
    with pytest.raises(Unreachable, match="closed here"):
        transport.exec("true")


def test_a_link_that_is_cut_between_two_commands_is_made_anew_without_a_word(proxy: Proxy) -> None:
    with Reconnecting(lambda: connect(proxy.address), "pod") as transport:
        transport.exec("true")
        proxy.cut()
        time.sleep(1.0)  # the reset arrives; nothing was being sent
        assert transport.exec("cat", b"2").stdout == b"2"
        assert proxy.accepted == 2


def test_a_local_command_that_is_interrupted_takes_its_children_along(pod: Path) -> None:
    def interrupt(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTransport().exec(f"echo begin; while sleep 0.2; do echo x >>{pod}/alive; done", on_stdout=interrupt)
    assert is_quiet(pod / "alive")


def test_a_command_that_cannot_lead_there_is_a_lost_link_with_its_words() -> None:
    with (
        dial(Address("cluster", command=("sh", "-c", "echo no route >&2; exit 255"))) as transport,
        pytest.raises(Unreachable, match="no route"),
    ):
        transport.exec("true")
    with dial(Address("cluster", command=("/no/such/program",))) as transport, pytest.raises(Unreachable, match="cannot be started"):
        transport.exec("true")


def test_closing_a_transport_ends_a_command_of_this_machine_that_waits() -> None:
    transport = dial(Address("cluster", command=("sh", "-c")))
    begun = threading.Event()

    def close(data: bytes) -> None:
        begun.set()
        threading.Thread(target=transport.close).start()

    with pytest.raises(Unreachable):
        transport.exec("echo here; sleep 60", on_stdout=close)
    assert begun.is_set()
    with pytest.raises(Unreachable, match="closed here"):
        transport.exec("true")


def test_how_long_a_link_is_is_known_from_the_login(server: Server) -> None:
    with late(server.address.port, 100) as port, connect(replace(server.address, port=port)) as t:
        assert 0.1 <= t._transport.packetizer.round_trip < 5
