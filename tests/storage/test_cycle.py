"""`invoke cycle`: a round is gone on with wherever it was cut off, rents nothing twice, and learns what is new."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.storage.conftest import Workspace, here
from tests.storage.test_result_verbs import HASTE, Clone, claimed, fresh_clone
from trainyard.config import Places
from trainyard.errors import Busy, DiskFull, StoreError, TrainyardError, UserError
from trainyard.runs.after import cycle, cyclerows
from trainyard.runs.after.compareanswers import ComparisonWish
from trainyard.runs.after.cycle import StageFailed, book_of, cron_lines, run_cycle
from trainyard.runs.after.cyclebook import CycleBook, CycleRequest, CycleRound
from trainyard.runs.after.ollama import OllamaOutcome, OllamaWish
from trainyard.runs.records.identity import RunId
from trainyard.runs.records.parts import PaidPod, RunBucket, RunResult
from trainyard.runs.records.record import RunFolder, RunRecord
from trainyard.runs.records.summary import RunSummary, summarize
from trainyard.runs.verbs.train import TrainRequest
from trainyard.storage.client import StoreSettings
from trainyard.storage.commit import commit
from trainyard.storage.manifest import ResultKey


@dataclass
class Played:
    """What the verbs of the stages are asked for, and how they end; the rounds, their book and the bucket are real."""

    clone: Clone
    settings: StoreSettings
    pod: Workspace
    begun: list[TrainRequest] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    trouble: dict[str, TrainyardError] = field(default_factory=dict)
    fails: set[str] = field(default_factory=set)
    nights: int = 1
    """The attempt that is begun."""

    def build(self, context: object, sources: tuple[str, ...], to: str, config: object, sets: list[str]) -> None:
        """Every line of a source is a row; lines that end in `?` are held back."""
        if error := self.trouble.get("data"):
            raise error
        lines = [line for source in sources for line in Path(source).read_text().splitlines()]
        Path(to).write_text("".join(f"{line}\n" for line in lines if not line.endswith("?")))
        held = [f"{line}\n" for line in lines if line.endswith("?")]
        if held:
            Path(to).with_name("rows.eval.jsonl").write_text("".join(held))

    def train(self, context: object, request: TrainRequest, start: object) -> RunSummary:
        """A run that is claimed, leaves a result and is over."""
        self.begun.append(request)
        assert request.name is not None and request.attempt == self.nights
        if error := self.trouble.get(request.recipe):
            raise error
        key, ok = ResultKey("greg", request.name, self.nights), request.name not in self.fails
        self.pod.write("output/model/config.json", b"{}")
        commit(
            self.settings,
            here(),
            key,
            self.pod.output,
            ["model/config.json"],
            [],
            token=claimed(self.settings, self.pod.root, key),
            patience=HASTE,
        )
        folder = RunFolder(RunId("greg", request.name, self.nights).folder(self.clone.context.places.runs))
        result = RunResult(s3_url="s3://x", s3_key=key.model, files=1) if ok else None
        record = RunRecord(
            user="greg", label=request.name, attempt=self.nights, environment="local", recipe=request.recipe,
            values={"base_model": "a/b", "method": "lora"},
            hours=1, created=0.0, bundle_sha256="", phase="ended", training_success=ok, result=result,
            bucket=RunBucket(self.settings.bucket, "local"), error=None if ok else "exited 1",
            error_code=None if ok else 1, token="token-of-greg-1",
            pods=[PaidPod("p", 0.0, 0.0)],
        )  # fmt: skip
        folder.save(record)
        return summarize(record, folder)

    def compare(self, context: object, run: str, stack: object, wish: ComparisonWish) -> tuple[Path, dict[str, Any]]:
        if error := self.trouble.get("prompts"):
            raise error
        self.asked.append((run, wish.against))
        assert wish.to is not None
        return wish.to, {"sides": {}, "judge": None}

    def ollama(self, context: object, run: str, stack: object, wish: OllamaWish) -> OllamaOutcome:
        if error := self.trouble.get("ollama"):
            raise error
        return OllamaOutcome(run=run, folder="", file="", sha256="", model=f"{wish.tag}:latest", server="http://127.0.0.1:11434")

    @property
    def names(self) -> list[str | None]:
        return [request.name for request in self.begun]


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


@pytest.fixture
def played(clone: Clone, settings: StoreSettings, pod: Workspace, monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played(clone, settings, pod)
    monkeypatch.setattr(cyclerows, "build_data", played.build)
    monkeypatch.setattr(cycle, "begin_training", played.train)
    monkeypatch.setattr(cycle, "compare_answers", played.compare)
    monkeypatch.setattr(cycle, "to_ollama", played.ollama)
    return played


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., CycleRequest]:
    source, prompts = tmp_path / "memories.jsonl", tmp_path / "prompts.txt"
    source.write_text('{"a": 1}\n{"a": 2}\n"held?\n')
    prompts.write_text("Where is it?\n\n")
    return lambda **more: CycleRequest(
        **{
            "name": "diary",
            "stack": "local",
            "data": (str(source),),
            "prompts": str(prompts),
            "merge": True,
            "ollama": "diary",
            "yes": True,
            **more,
        }
    )


def went(played: Played, request: CycleRequest | None, *, again: bool = False, clone: Clone | None = None) -> CycleRound:
    context = (clone or played.clone).context
    return run_cycle(context, book_of(context, "diary", None), request, again=again)


def outcomes(done: CycleRound) -> dict[str, str]:
    return {step.stage: step.outcome for step in done.steps}


def test_a_round_goes_through_every_stage_and_said_again_nothing_is_done(played: Played, request_of: Callable[..., CycleRequest]) -> None:
    done = went(played, request_of())

    folder = played.clone.context.places.home / "cycles/diary/1"
    assert outcomes(done) == {
        "data": "2 rows, 1 held back", "train": "greg/diary-1/1", "merge": "greg/diary-1-merge/1",
        "gguf": "greg/diary-1-gguf/1", "ollama": "diary:latest at http://127.0.0.1:11434", "prompts": f"{folder}/answers/report.html",
    }  # fmt: skip
    training, merging, writing = played.begun
    assert (writing.recipe, writing.data) == ("gguf", "run:greg/diary-1/1") and played.asked == [("greg/diary-1/1", "base")]
    assert training.data == f"{folder}/rows.jsonl" and training.sets == (f"eval_file={folder}/rows.eval.jsonl",)
    assert (merging.recipe, merging.data) == ("merge", "run:greg/diary-1/1")

    again = went(played, request_of())
    assert again.over and again.number == 1 and len(played.begun) == 3 and "nothing is trained again" in played.clone.said()
    assert went(played, request_of(), again=True).number == 2 and len(played.begun) == 6


@pytest.mark.parametrize("stage", ["data", "lora", "merge", "gguf", "ollama", "prompts"])
def test_a_stage_that_fails_is_gone_on_with_by_the_command_that_is_named(
    stage: str, played: Played, request_of: Callable[..., CycleRequest]
) -> None:
    played.trouble[stage] = StoreError("the store was away")

    with pytest.raises(StoreError, match="the store was away") as failed:
        went(played, request_of())
    assert failed.value.hint == "Go on with: invoke cycle --name diary --stack local"
    played.trouble.clear()
    assert went(played, None).over
    twice = {"lora": "diary-1", "merge": "diary-1-merge", "gguf": "diary-1-gguf"}.get(stage)
    assert sorted(map(str, played.names)) == sorted(["diary-1", "diary-1-gguf", "diary-1-merge", *([twice] if twice else [])])


def test_a_full_disk_in_a_stage_is_told_to_whom_it_concerns_and_gone_on_with(
    played: Played, request_of: Callable[..., CycleRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(cycle, "announce", lambda _, notice: told.append(f"{notice.kind}: {notice.text}"))
    full = OSError(errno.ENOSPC, "No space left on device", "answers")
    monkeypatch.setattr(cycle, "compare_answers", Mock(side_effect=full))

    with pytest.raises(DiskFull, match="No space left on device") as failed:
        went(played, request_of())

    assert str(failed.value.hint).endswith("Go on with: invoke cycle --name diary --stack local")
    (notice,) = told
    assert notice.startswith("failure: ") and "No space left on device" in notice
    monkeypatch.setattr(cycle, "compare_answers", played.compare)
    assert went(played, None).over and len(played.begun) == 3


def test_a_training_that_failed_is_not_rented_for_again(played: Played, request_of: Callable[..., CycleRequest]) -> None:
    played.fails.add("diary-1")

    for _ in range(2):
        with pytest.raises(StageFailed, match="run greg/diary-1 is no success: exited 1") as failed:
            went(played, request_of())
    assert failed.value.exit_code == 1 and played.names == ["diary-1"] and "invoke logs greg/diary-1" in str(failed.value.hint)
    assert went(played, request_of(sets=("lora_rank=4",))).number == 2, "other settings are another round"
    assert played.names == ["diary-1", "diary-2", "diary-2-merge", "diary-2-gguf"]


def test_a_kill_between_a_run_and_its_note_begins_no_second_run(
    played: Played, request_of: Callable[..., CycleRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for a SIGKILL: nothing behind it is done."""

    def killed(of: CycleRound, stage: str, state: str, **more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(
            CycleRound,
            "note",
            lambda of, stage, *rest, **more: killed(of, stage, "") if stage == "train" else note(of, stage, *rest, **more),
        )
        with pytest.raises(Killed):
            went(played, request_of())
    assert went(played, request_of()).over and played.names == ["diary-1", "diary-1-merge", "diary-1-gguf"]


note = CycleRound.note


def test_since_last_learns_only_what_is_new_and_goes_on_from_the_last_adapter(
    played: Played, request_of: Callable[..., CycleRequest], tmp_path: Path
) -> None:
    request = request_of(since_last=True, init_from_last=True, merge=False, ollama=None, prompts=None, sets=("base_model=a/b",))
    went(played, request)
    with (tmp_path / "memories.jsonl").open("a") as file:
        file.write('{"a": 3}\n')

    second = went(played, request)

    assert outcomes(second)["data"] == "1 row, 1 held back, 2 were learnt before"
    assert [one.init_from for one in played.begun] == [None, "greg/diary-1/1"]
    assert (played.clone.context.places.home / "cycles/diary/2/rows.jsonl").read_text() == '{"a": 3}\n'
    (tmp_path / "memories.jsonl").write_text('{"a": 3}\n{"a": 1}\n')
    third = went(played, request)
    assert third.nothing_new and third.over and len(played.begun) == 2 and outcomes(third) == {
        "data": "nothing new: all 2 rows were learnt by earlier rounds"
    }  # fmt: skip


def test_rows_of_a_round_whose_training_failed_are_still_new(
    played: Played, request_of: Callable[..., CycleRequest], tmp_path: Path
) -> None:
    played.fails.add("diary-1")
    request = request_of(since_last=True, merge=False, ollama=None, prompts=None)
    with pytest.raises(StageFailed):
        went(played, request)
    with (tmp_path / "memories.jsonl").open("a") as file:
        file.write('{"a": 3}\n')

    assert outcomes(went(played, request))["data"] == "3 rows, 1 held back"


def test_another_machine_goes_on_with_what_the_bucket_knows(
    played: Played, request_of: Callable[..., CycleRequest], store_places: Places, settings: StoreSettings, tmp_path: Path
) -> None:
    played.trouble["merge"] = StoreError("lost")
    with pytest.raises(StoreError):
        went(played, request_of())
    played.trouble.clear()
    other = fresh_clone(tmp_path / "other", store_places, settings)

    book = CycleBook(other.context, "diary", "local")
    found = book.newest()
    assert found is not None and found.outcome("train") == "greg/diary-1/1" and found.outcome("merge") is None
    assert (book.folder(1) / "learnt.txt").read_text().count("\n") == 2
    assert book.next_number() == 2


def test_two_at_once_are_one(played: Played, request_of: Callable[..., CycleRequest]) -> None:
    book = CycleBook(played.clone.context, "diary", "local")

    with book.held(), pytest.raises(Busy, match="another process is at work on cycle diary"):
        went(played, request_of())
    assert played.begun == []


def test_what_a_later_stage_would_refuse_is_refused_before_anything_is_built(
    played: Played, request_of: Callable[..., CycleRequest], tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    wrong = [
        (request_of(prompts=str(tmp_path / "empty.txt")), "holds no prompt"), (request_of(prompts=str(tmp_path / "none.txt")), "none.txt"),
        (request_of(init_from_last=True), "made anew from each round's rows"), (request_of(sets=("lora_rnk=4",)), "lora_rnk"),
        (request_of(ollama="No Tag"), "model No Tag: it is"), (request_of(hub="x"), "--hub x: a repository of the Hub is OWNER/NAME"),
        (request_of(data=(str(tmp_path / "nowhere"),)), "nowhere"), (request_of(against="me"), "it is base, last, none"),
        (request_of(gguf="Q9"), "--gguf Q9: must be one of F32"), (request_of(data_sets=("eval_shar=1",)), "did you mean 'eval_share'"),
        (request_of(sets=("method=full",)), "--merge: the training leaves a whole model"),
    ]  # fmt: skip
    for request, words in wrong:
        with pytest.raises(UserError, match=words):
            went(played, request)
    with pytest.raises(UserError, match="--stack auto: the rounds of a cycle are in the bucket of one stack"):
        run_cycle(played.clone.context, CycleBook(played.clone.context, "diary", "auto"), request_of(stack="auto"))
    with pytest.raises(UserError, match="use a-z"):
        run_cycle(played.clone.context, CycleBook(played.clone.context, "../x", "local"), request_of(name="../x"))
    with pytest.raises(UserError, match="there is no cycle diary"):
        went(played, None)  # no round was begun
    assert not (played.clone.context.places.home / "x").exists() and played.begun == []


def test_cron_and_systemd_say_the_very_command(played: Played, request_of: Callable[..., CycleRequest]) -> None:
    request = request_of(since_last=True, budget=5.0, sets=("persona=Ada 100% $5",))
    cron, *units = [line for line in cron_lines(book_of(played.clone.context, "diary", None), request) if line and not line.startswith("#")]

    assert f"cd {played.clone.context.places.root} && " in cron and " -m trainyard cycle --data " in cron
    assert (
        "--since last" in cron
        and "--budget 5 " in cron
        and "'persona=Ada 100\\% $5'" in cron
        and "--merge --yes >> .trainyard/cycles/" in cron
    )
    assert "SuccessExitStatus=8" in units and any("100%% $$5" in line for line in units)


def test_a_round_of_this_version_is_read_as_it_was_written(played: Played, request_of: Callable[..., CycleRequest]) -> None:
    done = went(played, request_of())
    book = CycleBook(played.clone.context, "diary", "local")

    assert book.read(1) == done
    path = book.folder(1) / "cycle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "number": "one"}))
    with pytest.raises(UserError, match="cannot be read: 'number' is 'one'"):
        went(played, replace(request_of(), yes=False))


def test_a_night_without_a_pod_is_no_verdict_and_the_next_one_begins_anew(played: Played, request_of: Callable[..., CycleRequest]) -> None:
    request = request_of(merge=False, ollama=None, prompts=None)
    played.fails.add("diary-1")
    with pytest.raises(StageFailed):
        went(played, request)
    folder = played.clone.context.folder("greg/diary-1")
    folder.save(replace(folder.load(), error="no offer", error_code=5, pods=[]))
    played.fails.clear()
    played.nights = 2

    assert outcomes(went(played, request))["train"] == "greg/diary-1/2"


def test_a_fresh_machine_learns_of_earlier_rounds_what_is_not_new(
    played: Played, request_of: Callable[..., CycleRequest], store_places: Places, settings: StoreSettings, tmp_path: Path
) -> None:
    request = request_of(since_last=True, merge=False, ollama=None, prompts=None)
    went(played, request)
    with (tmp_path / "memories.jsonl").open("a") as file:
        file.write('{"a": 3}\n')
    played.fails.add("diary-2")
    with pytest.raises(StageFailed):
        went(played, request)
    other = fresh_clone(tmp_path / "other", store_places, settings)
    played.clone = other
    with (tmp_path / "memories.jsonl").open("a") as file:
        file.write('{"a": 4}\n')

    third = went(played, request)
    assert third.number == 3 and outcomes(third)["data"] == "2 rows, 1 held back, 2 were learnt before"
