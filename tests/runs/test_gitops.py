"""runs/*.yaml of a real git repository: what is planned, started once, left, cancelled, finished."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.runs.gitops_yard import GitRoad
from tests.runs.road import STACK
from tests.runs.test_identity_and_record import make_record
from tests.sources import ROOT
from trainyard.clock import Clock
from trainyard.errors import Detached, KeyRefused, PodFailed, StillThere, TrainyardError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.gitops import plan, schema, sync, watch
from trainyard.runs.gitops.committed import committed_runs
from trainyard.runs.gitops.runfile import read_run_file
from trainyard.runs.life import alone
from trainyard.runs.records.identity import all_runs
from trainyard.runs.records.parts import RunPod
from trainyard.runs.signals import LeaveSignal
from trainyard.runs.verbs import account, train
from trainyard.runs.verbs.known import KnownRun
from trainyard.runs.verbs.prepare import PricedRun
from trainyard.runs.verbs.train import TrainRequest
from trainyard.runs.verbs.unit import _quoted
from trainyard.storage.manifest import ResultKey


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitRoad]:
    made = GitRoad(tmp_path, monkeypatch)
    made.begin()
    yield made
    made.lose_pod()


def actions(road: GitRoad) -> list[tuple[str, str]]:
    return [(row.action, row.run or row.file) for row in plan.rows(road.context, plan.look(road.context))]


def test_a_committed_file_is_one_run_however_often_it_is_synced(road: GitRoad) -> None:
    road.write("first.yaml", "hours: 1")
    commit = road.commit()
    run = f"gitops/first-{commit}"

    (row,) = plan.rows(road.context, plan.look(road.context))
    first = sync.sync(road.context)
    again = sync.sync(road.context)
    road.git("commit", "-q", "--allow-empty", "-m", "another file")
    later = sync.sync(road.context)
    road.let_train()
    done = sync.sync(road.context)
    last = sync.sync(road.context)

    assert (row.action, row.run, round(row.most or 0.0, 2)) == ("start", run, 1.57)
    assert first.started == [run] and again.at_work == later.at_work == [run] and not again.started and not later.started
    assert done.over == last.over == [run] and not last.started and first.exit_status == last.exit_status == 0
    assert [str(each) for each in all_runs(road.context.places.runs)] == [run] and road.cloud.alive() == []
    assert actions(road) == [("over", run)]


def test_what_was_removed_is_cancelled_and_what_was_changed_is_replaced(road: GitRoad) -> None:
    path = road.write("first.yaml")
    old = road.commit()
    sync.sync(road.context)
    path.write_text(path.read_text() + "hours: 1\n")
    new = road.commit()

    assert actions(road) == [("start", f"gitops/first-{new}"), ("cancel", f"gitops/first-{old}")]
    replaced = sync.sync(road.context)
    path.unlink()
    road.commit()
    removed = sync.sync(road.context)

    assert replaced.cancelled == [f"gitops/first-{old}"] and replaced.started == [f"gitops/first-{new}"]
    assert removed.cancelled == [f"gitops/first-{new}"] and actions(road) == []
    assert road.cloud.alive() == [] and len(all_runs(road.context.places.runs)) == 2


def test_what_is_not_committed_is_said_and_neither_run_nor_cancelled(road: GitRoad) -> None:
    path = road.write("first.yaml")
    commit = road.commit()
    sync.sync(road.context)
    path.unlink()
    road.write("second.yaml")

    report = sync.sync(road.context)

    assert report.uncommitted == ["runs/first.yaml", "runs/second.yaml"] and not report.started and not report.cancelled
    assert actions(road) == [("uncommitted", f"gitops/first-{commit}"), ("uncommitted", "runs/second.yaml")]
    assert "runs/second.yaml is not committed as it is" in road.said()


def test_all_that_is_wrong_in_all_files_is_told_at_once_with_its_place(road: GitRoad) -> None:
    road.write("bad.yaml", "hours: -1", "budgets: 3")
    road.write("Odd_Name.yaml")
    road.write("twin.yaml", "name: first")
    road.write("first.yaml")
    road.commit()

    with pytest.raises(UserError) as told:
        sync.sync(road.context)

    text = str(told.value)
    assert "runs/Odd_Name.yaml: its name begins the run's label" in text and "4 things in the run files" in text
    assert "runs/bad.yaml:4:8: 'hours' must be more than 0, not -1" in text
    assert "runs/bad.yaml:5:1: unknown key 'budgets' (did you mean 'budget'?)" in text
    assert "runs/twin.yaml: 'first' is the name of the run of runs/first.yaml, too" in text
    assert plan.markdown_of(told.value).startswith(plan.MARK) and not all_runs(road.context.places.runs)


def test_a_run_file_gives_what_train_is_asked_for(tmp_path: Path) -> None:
    text = "stack: local\ncommand: python train.py --lr 1e-4\ndata: rows.jsonl\nhours: 2\nbudget: 3\nresume: 1\ndeliver: local\nname: x\n"
    file = read_run_file(text, "runs/a.yaml")
    request = file.request(tmp_path, user="gitops", label="x-1", attempt=1, yes=False)

    assert request.recipe == "command" and request.words == ("python", "train.py", "--lr", "1e-4") and request.detach
    assert (request.hours, request.budget, request.resume, request.deliver) == (2.0, 3.0, 1, "local")
    assert request.data == str(tmp_path / "rows.jsonl") and (request.user, request.name, request.attempt) == ("gitops", "x-1", 1)
    assert (
        read_run_file("stack: a\ndata: s3://b/c\n", "runs/a.yaml").request(tmp_path, user="", label="", attempt=1, yes=True).data
        == "s3://b/c"
    )
    with pytest.raises(UserError, match="'stack' is missing"):
        read_run_file("recipe: lora\n", "runs/a.yaml")
    with pytest.raises(UserError, match="cannot be read as a line of a shell"):
        read_run_file("stack: a\ncommand: 'a \"b'\n", "runs/a.yaml")


def test_a_shallow_clone_that_hides_a_files_commit_is_refused_and_one_that_does_not_is_served(road: GitRoad, tmp_path: Path) -> None:
    road.write("old.yaml")
    old = road.commit()
    road.commit("unrelated")
    road.write("new.yaml")
    new = road.commit()
    clones = {depth: tmp_path / f"clone{depth}" for depth in (1, 2, 3)}
    for depth, clone in clones.items():
        road.git("clone", "-q", "--depth", str(depth), road.root.as_uri(), str(clone))

    with pytest.raises(UserError, match=r"shallow: which commit last touched runs/new.yaml and 1 more is not known") as told:
        committed_runs(clones[1])
    with pytest.raises(UserError, match=r"runs/old.yaml is not known"):
        committed_runs(clones[2])

    assert told.value.hint and "fetch-depth: 0" in told.value.hint
    road.git("fetch", "-q", "--unshallow", at=clones[3])
    assert {file.path: file.commit[:12] for file in committed_runs(clones[3]).files} == {"runs/old.yaml": old, "runs/new.yaml": new}


def test_a_link_and_a_folder_with_the_name_of_a_run_file_are_refused_with_the_reason(road: GitRoad) -> None:
    road.write("first.yaml")
    (road.root / "runs" / "link.yaml").symlink_to("first.yaml")
    (road.root / "runs" / "folder.yaml").mkdir()
    (road.root / "runs" / "folder.yaml" / "x").touch()
    road.commit()
    with pytest.raises(UserError) as told:
        plan.look(road.context)
    assert "runs/link.yaml: is a symbolic link in git, and a run is named after the last commit of its own file" in str(told.value)
    assert "runs/folder.yaml: is a folder in git" in str(told.value)


def test_runs_are_priced_at_the_same_time_and_told_in_their_order(road: GitRoad, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        road.write(f"{name}.yaml")
    road.commit()
    meeting = threading.Barrier(3, timeout=60)

    def foresee(context: CommandContext, request: TrainRequest) -> PricedRun:
        meeting.wait()  # breaks when they come one after the other
        return train.foresee(context, request)

    monkeypatch.setattr(plan, "foresee", foresee)
    rows = plan.rows(road.context, plan.look(road.context))
    assert [(row.file, round(row.most or 0.0, 2)) for row in rows] == [(f"runs/{name}.yaml", 2.62) for name in "abc"]


def test_outside_git_and_before_the_first_commit_it_is_said(road: GitRoad, tmp_path: Path) -> None:
    bare = tmp_path / "plain"
    bare.mkdir()
    with pytest.raises(UserError, match="git does not tell what is committed here"):
        committed_runs(bare)


def test_one_run_that_cannot_start_keeps_no_other_from_it_and_is_tried_again(road: GitRoad) -> None:
    (road.root / "runs").mkdir()
    (road.root / "runs" / "aaa.yaml").write_text("stack: dev\nrecipe: command\nvalues: {script: nowhere.sh}\n")
    road.write("bbb.yaml")
    road.commit()

    report = sync.sync(road.context)
    rows = plan.rows(road.context, plan.look(road.context))

    assert [run.partition("-")[0] for run in report.started] == ["gitops/bbb"]
    assert report.exit_status == UserError.exit_code and "nowhere.sh" in next(iter(report.failed.values()))
    assert [(row.action, row.wrong) for row in rows] == [("start", True), ("at work", False)]
    assert "| **start** | `runs/aaa.yaml` |" in plan.markdown(rows) and "1 start, 1 at work" in plan.summary(rows)


def test_in_a_ci_job_a_stack_whose_bucket_the_next_job_would_not_find_is_refused(road: GitRoad) -> None:
    (road.root / "Pulumi.runpod.yaml").write_text("config: {}\n")
    (road.root / "runs").mkdir()
    (road.root / "runs/a.yaml").write_text("stack: runpod\nrecipe: command\ncommand: ls\n")
    road.commit()
    job = CommandContext(road.context.places, {**road.context.env, "CI": "true"}, road.context.ui)

    with pytest.raises(UserError, match=r"runs/a.yaml: stack 'runpod' names no bucket, and the next CI job would know nothing"):
        plan.look(job)
    (road.root / "Pulumi.runpod.yaml").write_text("config:\n  trainyard:bucket: none\n")
    with pytest.raises(UserError, match="names no bucket"):
        plan.look(job)
    (road.root / "Pulumi.runpod.yaml").write_text("config:\n  trainyard:env_id: 0123abcd\n")
    assert [one.label[:2] for one in plan.look(job).desired] == ["a-"]


def test_a_watcher_follows_the_branch_of_its_remote_and_says_what_keeps_it_from_that(road: GitRoad, tmp_path: Path) -> None:
    origin, colleague = tmp_path / "origin.git", tmp_path / "colleague"
    road.git("clone", "-q", "--bare", ".", str(origin))
    road.git("remote", "add", "origin", str(origin))
    road.git("fetch", "-q", "origin")
    road.git("branch", "-q", "--set-upstream-to", "origin/main")
    road.git("clone", "-q", str(origin), str(colleague))

    def push(seconds: float) -> None:
        assert seconds == 60.0
        (colleague / "runs").mkdir()
        (colleague / "runs/first.yaml").write_text("stack: dev\nrecipe: command\nvalues: {script: train.sh}\n")
        road.git("add", "-A", at=colleague)
        road.git("commit", "-q", "-m", "a run", at=colleague)
        road.git("push", "-q", at=colleague)

    code = watch.watch(road.context, every=60.0, yes=False, rounds=2, clock=Clock(pause=push))
    road.commit("of my own")
    road.git("commit", "-q", "--allow-empty", "-m", "another", at=colleague)
    road.git("push", "-q", at=colleague)
    diverged = watch.fast_forward(road.root)
    origin.rename(tmp_path / "away")

    assert code == 0 and [action for action, _ in actions(road)] == ["at work"]
    assert "has commits or changes of its own" in diverged[0] and "cannot be asked" in watch.fast_forward(road.root)[0]


def test_a_unit_for_systemd_has_its_words_as_systemd_reads_them(tmp_path: Path) -> None:
    text = watch.unit(Path("/srv/my models/100%"), {"TRAINYARD_LEDGER": "postgresql://u:p@h/d"}, every=30.0, yes=True)
    assert "# Set in your shell, not in .env, so unknown to this unit: TRAINYARD_LEDGER\n" in text and "u:p" not in text

    assert "WorkingDirectory=/srv/my models/100%%\n" in text and "KillMode=process\n" in text
    assert text.splitlines()[10].endswith("-m trainyard gitops.watch --every 30 --yes")
    assert _quoted('a "$b" c\\') == '"a \\"$$b\\" c\\\\"'


def test_an_interrupted_sync_leaves_nothing_and_the_next_one_begins_the_run(road: GitRoad) -> None:
    road.write("first.yaml")
    commit = road.commit()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    road.engine.trouble = lambda stack, operation: interrupted() if operation == "up" and "." in stack.name else None
    with pytest.raises(KeyboardInterrupt):
        sync.sync(road.context)
    assert "left (Ctrl-C): the next sync goes on with what was begun: invoke gitops.sync" in road.said()
    left = road.cloud.alive()
    road.engine.trouble = lambda *_: None
    report = sync.sync(road.context)

    assert left == [] and report.started == [f"gitops/first-{commit}"]
    assert sorted(run.attempt for run in all_runs(road.context.places.runs)) == [1, 2]


def test_a_sync_that_leaves_a_training_behind_tells_how_to_come_back(road: GitRoad) -> None:
    road.write("first.yaml")
    commit = road.commit()

    def interrupted(*_: object) -> bool:
        raise LeaveSignal("SIGTERM")

    road.patch(alone, "hand_over", interrupted)
    with pytest.raises(LeaveSignal):
        sync.sync(road.context)

    said = road.said()
    assert f"invoke attach gitops/first-{commit}" in said and "left (SIGTERM): the next sync goes on" in said
    assert len(road.cloud.alive()) == 1, "a training goes on whoever leaves"


@pytest.mark.parametrize("left", [LeaveSignal("SIGTERM"), StillThere("a pod may be there")])
def test_a_signal_ends_a_watcher_also_where_it_leaves_something_that_costs_money(road: GitRoad, left: BaseException) -> None:
    def gone(*_: object) -> None:
        if isinstance(left, StillThere):
            signal = LeaveSignal("SIGTERM")
            signal.__cause__ = left
            raise signal
        raise left

    road.patch(sync, "_carry_out", lambda *_, **__: gone())
    with pytest.raises(type(left)):
        watch.watch(road.context, every=60.0, yes=False, rounds=1)


def test_a_training_whose_pod_takes_no_plan_is_told_and_left_at_work(road: GitRoad) -> None:
    road.write("first.yaml")
    road.commit()

    def refuses(*_: object) -> bool:
        raise PodFailed("its watchdog takes no plan")

    road.patch(alone, "hand_over", refuses)
    report = sync.sync(road.context)

    assert report.exit_status == Detached.exit_code and len(report.failed) == 1
    assert [action for action, _ in actions(road)] == ["at work"]


def test_the_schema_for_editors_is_as_the_table_makes_it() -> None:
    judge = jsonschema.Draft7Validator(schema.schema())

    assert (ROOT / schema.SCHEMA).read_text(encoding="utf-8") == schema.schema_text(), "run: invoke docs --write"
    assert judge.is_valid({"stack": "local", "command": ["python", "train.py"], "values": {"lr": 1}, "hours": 2, "budget": 3.5})
    for wrong in ({"recipe": "lora"}, {"stack": "a", "hours": -1}, {"stack": "a", "budgets": 1}, {"stack": "a", "name": "A b"}):
        assert not judge.is_valid(wrong), wrong


def test_a_mistake_names_its_file_and_counts_once_and_its_hint_stands_below_it(road: GitRoad) -> None:
    for name, text in {
        "bad.yaml": "stack: dev\nhours: -1\nbudgets: 3\n", "empty.yaml": "", "lost.yaml": "stack: nowhere\ncommand: ls\n",
        f"{'a' * 120}.yaml": "stack: dev\ncommand: ls\n",
    }.items():  # fmt: skip
        road.write(name).write_text(text)
    road.commit()

    with pytest.raises(UserError) as refused:
        plan.look(road.context)

    text = str(refused.value)
    assert text.startswith(f"runs/{'a' * 120}.yaml: its name makes the run's label too long")
    assert "5 things in the run files are wrong" in text
    assert "runs/empty.yaml:1:1: 'stack' is missing: it says where this runs\n  A line like: stack: local\n" in text
    assert "runs/lost.yaml:1:8: there is no stack 'nowhere' (Pulumi.nowhere.yaml is missing)\n  Stacks here: dev" in text
    assert "runs/bad.yaml:2:8: " in text and "runs/bad.yaml:3:1: " in text and text.count("things in") == 1


@pytest.mark.parametrize("trouble", [KeyRefused("h: refuses the key k"), PodFailed("no training was started on pod p")])
def test_a_removed_run_of_another_machine_is_ended_by_the_cloud_where_this_ones_key_is_refused(
    trouble: TrainyardError, road: GitRoad, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise trouble

    ended: list[str] = []
    key = road.context.places.ssh / STACK / "id_ed25519"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.touch()
    monkeypatch.setattr(sync, "adopt", refused)
    monkeypatch.setattr(account, "end_pod", lambda _context, stack, pod: ended.append(f"{stack}/{pod}"))
    record = make_record(environment=STACK, cloud="local", pod=RunPod(pod_id="p"))
    known = KnownRun(ResultKey("gitops", "first-0123456789ab", 1), "at work", "elsewhere", None, record)

    report = sync.SyncReport()
    assert sync._cancel(road.context, report, known) is None
    assert ended == [f"{STACK}/p"] and report.cancelled == [known.run] and "its pod is ended as it stands" in road.said()
    assert [event.kind for event in road.context.ledger().events(record.id)] == ["cancel"], "who finds the pod gone is to know why"
