"""The way of hosts through plays: handlers, blocks, lost links, tags, patterns."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.playbook.conftest import Run
from tests.playbook.test_executor import local
from tests.remote.proxy import Proxy
from tests.remote.sshd import Server
from trainyard.errors import Unreachable, UserError
from trainyard.playbook import Host
from trainyard.remote.reconnect import Reconnecting
from trainyard.remote.transport import LocalTransport, SshTransport, connect

# ---- handlers


HANDLED = """
    - hosts: all
      tasks:
        - {command: "true", notify: [second, first], changed_when: "{{ changed }}"}
        - {command: "true", notify: second}
        - {command: "{{ last }}"}
      handlers:
        - {name: first, shell: "echo first >>{{ tmp }}/handled"}
        - {name: second, shell: "echo second >>{{ tmp }}/handled", notify: third}
        - {name: third, shell: "echo third >>{{ tmp }}/handled"}
        - {name: never, shell: "echo never >>{{ tmp }}/handled"}
"""


def test_handlers_run_once_at_the_end_in_their_own_order(run: Run, tmp_path: Path) -> None:
    run(HANDLED.replace('"{{ changed }}"', "true"), extra={"last": "true"})
    assert (tmp_path / "handled").read_text().split() == ["first", "second", "third"]


def test_a_handler_of_a_task_that_changed_nothing_does_not_run(run: Run, tmp_path: Path) -> None:
    run(HANDLED.replace('"{{ changed }}"', "false"), extra={"last": "true"})
    assert (tmp_path / "handled").read_text().split() == ["second", "third"]


def test_handlers_of_a_failed_host_do_not_run(run: Run, tmp_path: Path) -> None:
    run(HANDLED.replace('"{{ changed }}"', "true"), extra={"last": "false"})
    assert not (tmp_path / "handled").exists()


# ---- blocks


FAILED = ("failed_task", "failed_result", "ansible_failed_task", "ansible_failed_result")
BLOCK = """
    - block:
        - {command: "{{ body }}"}
        - {set_fact: {finished: 1}}
      rescue:
        - {set_fact: {why: "{{ failed_task.name }} {{ failed_result.rc }}"}}
        - {command: "{{ rescue }}"}
      always:
        - {set_fact: {cleaned: 1}}
        - {command: "{{ always }}"}
    - {set_fact: {after: 1}}
"""


@pytest.mark.parametrize(
    ("body", "rescue", "always", "facts", "code", "counters"),
    [
        ("true", "true", "true", {"finished", "cleaned", "after"}, 0, (0, 0)),
        ("false", "true", "true", {"why", "cleaned", "after", *FAILED}, 0, (1, 0)),
        ("false", "false", "true", {"why", "cleaned", *FAILED}, 2, (1, 1)),
        ("true", "true", "false", {"finished", "cleaned"}, 2, (0, 1)),
    ],
)
def test_rescue_and_always(run: Run, body: str, rescue: str, always: str, facts: set[str], code: int, counters: tuple[int, int]) -> None:
    shown = run(BLOCK, extra={"body": body, "rescue": rescue, "always": always})
    assert set(shown.facts()) == facts and shown.report.exit_code == code
    tally = shown.report.tallies["pod"]
    assert (tally.rescued, tally.failed) == counters
    if "why" in facts:
        assert shown.facts()["why"] == "command 1"


def test_only_the_hosts_that_failed_are_rescued(run: Run) -> None:
    shown = run("""
        - block:
            - {command: "{{ 'false' if me == 'b' else 'true' }}"}
          rescue:
            - {set_fact: {rescued: 1}}
    """, hosts=local("a", "b"))  # fmt: skip
    assert "rescued" in shown.facts("b") and "rescued" not in shown.facts("a") and shown.report.exit_code == 0


# ---- unreachable


def test_a_lost_link_is_unreachable_and_never_rescued(run: Run, server: Server) -> None:
    proxy = Proxy(server.address)
    with connect(proxy.address) as transport:
        shown = run("""
            - block:
                - {name: cut, shell: "echo; {{ 'sleep 30' if inventory_hostname == 'pod' else 'true' }}"}
              rescue: [{set_fact: {rescued: 1}}]
              always: [{set_fact: {cleaned: 1}}]
        """, hosts={"pod": Host(_CuttingAt(transport, proxy, "sleep 30")), **local("b")}, tags=[])  # fmt: skip
    proxy.close()
    assert shown.report.exit_code == 5 and shown.report.tallies["pod"].unreachable == 1
    assert "rescued" not in shown.facts() and "fatal: [pod]: UNREACHABLE!" in shown.text
    with pytest.raises(Unreachable):
        shown.report.raise_for_failure()


AGAIN = """
    - {name: waits, wait_for: {path: "{{ tmp }}/there", timeout: 60}, register: waited}
    - {name: writes, copy: {content: x, dest: "{{ tmp }}/f"}, notify: seen}
"""


def test_what_may_be_done_twice_is_done_again_when_its_link_is_lost(run: Run, server: Server, tmp_path: Path) -> None:
    proxy = Proxy(server.address)
    (tmp_path / "f").write_text("x")
    with Reconnecting(lambda: _CuttingAt(connect(proxy.address), proxy, "there", once)) as transport:
        once: list[int] = []
        (tmp_path / "there").touch()
        shown = run(AGAIN.replace(", notify: seen", ""), hosts={"pod": Host(transport)})
    proxy.close()
    assert shown.report.exit_code == 0 and once == [1] and "LINK LOST - DOING IT AGAIN: [pod]: " in shown.text
    assert shown.report.tallies["pod"].changed == 0 and shown.clock.slept


def test_what_is_not_known_of_the_first_time_counts_as_changed(run: Run, tmp_path: Path) -> None:
    class Forgetful(LocalTransport):
        """Does the first thing that it is asked for, and loses the answer."""

        lost = False

        def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
            done = super().exec(command, stdin, **more)
            if not self.lost:
                self.lost = True
                raise Unreachable("the link was lost")
            return done

    text = "- {hosts: all, tasks: [{file: {path: '{{ tmp }}/d', state: directory}, notify: h}], handlers: [{name: h, debug: {msg: hi}}]}"
    shown = run(text, hosts={"pod": Host(Forgetful())})
    assert shown.report.tallies["pod"].changed == 1 and "RUNNING HANDLER [h]" in shown.text
    assert run(text, hosts={"pod": Host(Forgetful())}, check=True).report.tallies["pod"].changed == 0
    shown = run("- shell: echo x >>{{ tmp }}/once", hosts={"pod": Host(Forgetful())})
    assert shown.report.exit_code == 5 and (tmp_path / "once").read_text() == "x\n"


class _CuttingAt:
    """Cuts the link as soon as a certain command has begun to answer (or, with ``once``, the first time before it is sent)."""

    def __init__(self, inner: SshTransport, proxy: Proxy, mark: str, once: list[int] | None = None) -> None:
        self._inner, self._proxy, self._mark, self.name, self._once = inner, proxy, mark, inner.name, once

    def exec(self, command, stdin=None, **more):  # type: ignore[no-untyped-def]
        if self._once is not None:
            if self._mark in command and not self._once:
                self._once.append(1)
                threading.Timer(0.3, self._proxy.cut).start()
                command = "sleep 30"
            return self._inner.exec(command, stdin, **more)
        cut = {"on_stdout": lambda data: self._proxy.cut()} if self._mark in command else {}
        return self._inner.exec(command, stdin, **{**more, **cut})

    def close(self) -> None:
        self._inner.close()

    def __enter__(self):  # type: ignore[no-untyped-def]
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- selection


TAGGED = """
    - hosts: all
      tasks:
        - {set_fact: {plain: 1}}
        - {set_fact: {red: 1}, tags: red}
        - {set_fact: {both: 1}, tags: [red, blue]}
        - {set_fact: {always_: 1}, tags: always}
        - {set_fact: {never_: 1}, tags: [never, special]}
        - block: [{set_fact: {inner: 1}}]
          tags: blue
"""


@pytest.mark.parametrize(
    ("only", "skip", "ran"),
    [
        ([], [], {"plain", "red", "both", "always_", "inner"}),
        (["red"], [], {"red", "both", "always_"}),
        (["blue"], ["red"], {"inner", "always_"}),
        (["special"], [], {"never_", "always_"}),
        (["never"], [], {"never_", "always_"}),
        (["untagged"], [], {"plain", "always_"}),
        (["tagged"], [], {"red", "both", "always_", "inner"}),
        ([], ["blue"], {"plain", "red", "always_"}),
        ([], ["always"], {"plain", "red", "both", "inner"}),
    ],
)
def test_tags_choose_tasks(run: Run, only: list[str], skip: list[str], ran: set[str]) -> None:
    assert set(run(TAGGED, tags=only, skip_tags=skip).facts()) == ran


def test_start_at_task_leaves_out_what_stands_before(run: Run) -> None:
    text = "- {name: a, set_fact: {a: 1}}\n- block:\n    - {name: b, set_fact: {b: 1}}\n- {name: c, set_fact: {c: 1}}"
    assert set(run(text, start_at="b").facts()) == {"b", "c"}
    with pytest.raises(UserError, match="there is no task 'bb' to start at"):
        run(text, start_at="bb")


def test_a_pattern_that_names_no_host_is_told_before_anything_runs(run: Run, tmp_path: Path) -> None:
    text = "- hosts: pod-*\n  tasks: [{shell: 'touch {{ tmp }}/ran'}]\n- hosts: {0}\n  tasks: [{debug: {msg: hi}}]"
    with pytest.raises(UserError, match=r"there is no host and no group 'pob-1' \(did you mean 'pod-1'\?\)"):
        run(text.replace("{0}", "pob-1"), hosts=local("pod-1", "other"))
    assert not (tmp_path / "ran").exists()
    shown = run(text.replace("{0}", "[other, localhost]"), hosts=local("pod-1", "other"))
    assert set(shown.report.tallies) == {"pod-1", "other", "localhost"}
