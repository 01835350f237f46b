"""Recipe nanochat: the speedrun as it is, on a repository that is laid out as nanochat's; real processes, git over file://, no torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recipes.conftest import ROOT
from tests.recipes.speedruns import Speedrun, repository
from trainyard.errors import UserError
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import needs_of, resolve
from trainyard.runs.planning import fit

RECIPE = load_recipe(ROOT, "nanochat")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("upstream")
    return folder, repository(folder)


# Settings


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["commit=master"], "must be all 40 digits"),
        (["size=d24", "gpus=0"], "would take months"),
        (["keep_alive=soon"], "must be a time like 2h"),
        (["wandb_run=a b"], "letters, digits"),
        (["chat_only=true"], "say for how long"),
    ],
)
def test_settings_that_cannot_be_run_are_refused_before_anything_is_rented(sets: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        resolve(RECIPE, sets=sets)


def test_shards_and_needs_follow_the_size() -> None:
    known = {size: resolve(RECIPE, sets=[f"size={size}"]) for size in ("tiny", "d20", "d24", "d26", "d32")}
    assert [values["shards"] for values in known.values()] == [1, 109, 170, 209, 365]
    assert [needs_of(RECIPE, values)["gpus"] for values in known.values()] == [0, 8, 8, 8, 8]
    assert needs_of(RECIPE, resolve(RECIPE, sets=["size=d24", "gpus=1", "device_batch_size=4"]))["vram_gb"] == 40
    chat = needs_of(RECIPE, resolve(RECIPE, sets=["size=d24", "chat_only=true", "keep_alive=2h"]))
    assert (chat["gpus"], chat["vram_gb"], chat["flops"]) == (1, 24, 0)


# The speedrun


def test_the_speedrun_runs_as_it_is_and_each_step_is_kept(source: tuple[Path, str], tmp_path: Path) -> None:
    done = Speedrun(tmp_path, *source, "save_total_limit=9", "shards=12").ends(0)
    by_program = {call.split()[0]: call for call in done.calls}
    assert by_program["base_train.py"].split()[1] == "--depth=24" and "--depth=2" in by_program["base_train.py"].split()
    assert [call for call in done.calls if "dataset.py" in call] == ["dataset.py -n 8 --num-files=8", "dataset.py -n 170 --num-files=12"]
    model = done.output / "model"
    assert {str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()} == {
        "tokenizer/tokenizer.pkl", "tokenizer/token_bytes.pt",
        "base_checkpoints/d2/model_000020.pt", "base_checkpoints/d2/meta_000020.json",
        "base_eval/base_model_000020.csv", "identity_conversations.jsonl", "chatsft_checkpoints/d2/model_000020.pt",
        "chatsft_checkpoints/d2/meta_000020.json", "report/header.md", "report/report.md", "report.md", "phases.json",
    }  # fmt: skip
    assert done.checkpoints == ["02-tokenizer", "04-base-000020", "05-base-eval", "06-identity", "07-sft"]
    result = json.loads((done.output / "result.json").read_text())
    assert (result["commit"], result["unmodified"], result["tag"], result["steps"]) == (source[1], True, "d2", 20)
    assert result["phases"]["base"]["parameters"] == 1384120320 and result["phases"]["base-eval"]["core_metric"] == 0.2626
    assert result["phases"]["tokenizer-eval"]["wrong"] == "it ended with code 1", "told, and no reason to end"
    assert "look at the tokenizer: not taken: it ended with code 1" in done.log and "FAILED" not in done.log
    report = (model / "report.md").read_text()
    assert report.startswith("# The report of upstream\n") and "ARC-Easy 37.5, GSM8K 2.5" in report
    steps = [(line["phase"], line["step"], line["total_steps"]) for line in done.metrics if "loss" in line]
    assert steps[:20] == [("base", step, 20) for step in range(20)]
    assert steps[20:] == [("sft", 20 + step, 40) for step in range(1, 21)]
    assert [line["val_bpb"] for line in done.metrics if "val_bpb" in line] == [4, 3, 2]
    assert done.status["state"] == "done" and done.status["step"] == 40


@pytest.mark.parametrize(
    ("sets", "title", "wrong", "begun"),
    [
        (["base_args=--fail=silence:7"], "base model", "code 0, and has left no base_checkpoints/d2/model_", False),
        pytest.param(
            *(
                ["base_args=--fail=silence:17 --save-every=10"],
                "base model",
                r"code 0, and has left no model of its last step \(20\)",
                False,
            ),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *(["base_args=--fail=code:7"], "base model", "it ended with code 3: x.BadError: a reason$", False), marks=pytest.mark.long
        ),
        pytest.param(
            *(["sft_args=--fail=silence"], "chat model (SFT)", "code 0, and has left no chatsft_checkpoints/d2/model_", True),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *(["eval_args=--fail=silence"], "look at the chat model", "code 0, and has told no figure", True), marks=pytest.mark.long
        ),
    ],
)
def test_a_step_that_leaves_nothing_has_failed_whatever_its_code(
    source: tuple[Path, str], tmp_path: Path, sets: list[str], title: str, wrong: str, begun: bool
) -> None:
    failed = Speedrun(tmp_path, *source, *sets).ends(1)
    assert failed.status["state"] == "failed" and failed.status["message"].startswith(f"{title}: it ")
    assert f"nanochat: {title}: FAILED: it ended" in failed.log
    assert re.search(wrong, failed.status["message"])
    assert any(call.startswith("chat_sft.py") for call in failed.calls) == begun, "what needs it is not begun"
    assert any(known.pattern.search(failed.log) for known in RECIPE.known_failures)


def test_what_an_earlier_start_has_left_does_not_pass_for_what_a_step_must_leave(source: tuple[Path, str], tmp_path: Path) -> None:
    run = Speedrun(tmp_path, *source, "sft_args=--fail=silence")
    torn = tmp_path / "nanochat" / "home" / ".cache" / "nanochat" / "chatsft_checkpoints" / "d2"
    torn.mkdir(parents=True)
    for name in ("model_000020.pt", "meta_000020.json"):
        (torn / name).write_text("half of it")
    run.ends(1)
    assert "and has left no chatsft_checkpoints/d2/model_" in run.status["message"]


@pytest.mark.long
def test_a_download_that_ends_well_without_its_shards_has_failed(tmp_path: Path) -> None:
    commit = repository(tmp_path / "up", nanochat__dataset="from nanochat.stub import *\nleave('base_data_climbmix/shard_00000.parquet')\n")
    failed = Speedrun(tmp_path / "run", tmp_path / "up", commit).ends(1)
    assert failed.status["message"] == "training data: it ended with code 0, and 1 of 2 shards are there"
    assert not any("train" in call for call in failed.calls), "nothing is trained on half of the data"
    assert failed.log.count("once more, for what is missing") >= 2


@pytest.mark.long
def test_a_training_ends_with_the_program_that_reads_it(source: tuple[Path, str], tmp_path: Path) -> None:
    run = Speedrun(tmp_path, *source, "base_args=--save-every=5 --fail=wait:8")
    process = run.start()
    _until(lambda: (run.output / "checkpoints" / "04-base-000005").is_dir())
    os.kill(int((tmp_path / ".trainyard" / "program.pid").read_text()), signal.SIGKILL)
    assert process.wait() == 137
    _until(lambda: not _at_work(tmp_path))


@pytest.mark.long
def test_the_environment_is_the_one_of_the_repository_for_this_kind_of_machine(source: tuple[Path, str], tmp_path: Path) -> None:
    uv, said = tmp_path / "uv", tmp_path / "said"
    uv.write_text(f'#!/bin/sh\necho "$@" >>{said}\n[ "$1" = sync ] || exec {sys.executable} -m venv --without-pip .venv\n')
    uv.chmod(0o755)
    done = Speedrun(tmp_path / "run", *source, "python=project").ends(0, TRAINYARD_UV=str(uv))
    assert said.read_text() == "venv\nsync --extra cpu\n", "the script asks for the GPU's"
    assert json.loads((done.output / "result.json").read_text())["unmodified"]

    uv.write_text("#!/bin/sh\n[ $1 = venv ] || exit 2\nmkdir -p .venv/bin; touch .venv/bin/activate\n")
    failed = Speedrun(tmp_path / "other", *source, "python=project").ends(1, TRAINYARD_UV=str(uv))
    assert failed.status["message"] == "Python environment: uv sync ended with code 2"


@pytest.mark.long
def test_a_run_goes_on_elsewhere_from_the_last_save_and_does_nothing_twice(source: tuple[Path, str], tmp_path: Path) -> None:
    first = Speedrun(tmp_path / "first", *source, "base_args=--save-every=5 --fail=code:17", "save_total_limit=1").ends(1)
    assert first.checkpoints == ["04-base-000015"]
    second = Speedrun(tmp_path / "second", *source, "base_args=--save-every=5")
    place = second.output / "checkpoints" / "04-base-000015"
    shutil.copytree(first.output / "checkpoints" / "04-base-000015", place)

    second.ends(0, TRAINYARD_RESUME=str(place))
    programs = [call.split()[0] for call in second.calls]
    assert "tok_train.py" not in programs and "--resume-from-step=15" in second.calls[[*programs].index("base_train.py")]
    assert not any(call == "report.py reset" for call in second.calls)
    trained = [line["step"] for line in second.metrics if "loss" in line and line["phase"] == "base"]
    assert sorted(set(trained)) == list(range(20))
    assert json.loads((second.output / "result.json").read_text())["phases"]["tokenizer"]


@pytest.mark.long
def test_a_save_that_was_torn_is_not_gone_on_from(source: tuple[Path, str], tmp_path: Path) -> None:
    run = Speedrun(tmp_path, *source, "base_args=--save-every=5 --fail=code:17").ends(1)
    folder = tmp_path / "nanochat" / "home" / ".cache" / "nanochat" / "base_checkpoints" / "d2"
    for name in ("model_000020.pt", "meta_000020.json", "optim_000020_rank0.pt"):
        (folder / name).write_text("torn")
    run.ends(1)
    assert "--resume-from-step=15" in [call for call in run.calls if call.startswith("base_train.py")][-1]


@pytest.mark.long
def test_only_the_look_that_failed_is_taken_again(source: tuple[Path, str], tmp_path: Path) -> None:
    first = Speedrun(tmp_path / "first", *source, "eval_args=--fail=code").ends(1)
    second = Speedrun(tmp_path / "second", *source)
    place = second.output / "checkpoints" / "07-sft"
    shutil.copytree(first.output / "checkpoints" / "07-sft", place)
    second.ends(0, TRAINYARD_RESUME=str(place))
    assert [call.split()[0] for call in second.calls] == ["chat_eval.py", "report.py"]


def test_a_run_that_is_told_to_stop_leaves_its_last_save(source: tuple[Path, str], tmp_path: Path) -> None:
    run = Speedrun(tmp_path, *source, "base_args=--save-every=5 --fail=wait:8")
    process = run.start()
    _until(lambda: (run.output / "checkpoints" / "04-base-000005").is_dir())
    process.terminate()
    assert process.wait() == 75, run.log
    assert run.status["state"] == "stopped" and run.checkpoints[-1] == "04-base-000005"


@pytest.mark.long
def test_a_result_is_chatted_with_on_a_pod_of_its_own(source: tuple[Path, str], tmp_path: Path) -> None:
    first = Speedrun(tmp_path / "first", *source).ends(0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    chat = Speedrun(tmp_path / "chat", *source, "keep_alive=2h", "chat_only=true", f"port={port}", data=first.output / "model")
    process = chat.start()
    _until(lambda: _answers(port))
    assert chat.status["state"] == "done" and f"invoke tunnel RUN {port}" in chat.log
    process.terminate()
    assert process.wait() == 0, chat.log
    assert chat.calls == ["report.py generate"], "nothing is trained again"


def test_what_cannot_be_run_is_said_before_anything_is_trained(source: tuple[Path, str], tmp_path: Path) -> None:
    folder, commit = source
    wrong = "0" * 40
    assert f"at {wrong} cannot be had" in Speedrun(tmp_path / "a", folder, wrong).ends(2).log
    assert "this machine has 0 (nvidia-smi tells of none)" in Speedrun(tmp_path / "b", folder, commit, "gpus=2").ends(2).log
    assert "name WANDB_API_KEY in pod_secrets" in Speedrun(tmp_path / "e", folder, commit, "wandb_run=first").ends(2).log
    (folder / "addresses" / "eval_bundle.zip").rename(tmp_path / "bundle")
    assert "eval_bundle.zip, which the speedrun downloads, does not answer" in Speedrun(tmp_path / "f", folder, commit).ends(2).log
    (tmp_path / "bundle").rename(folder / "addresses" / "eval_bundle.zip")


@pytest.mark.long
def test_a_later_commit_has_a_report_of_what_was_measured_and_no_chat(tmp_path: Path) -> None:
    other = tmp_path / "other"
    later = repository(other, "scripts/chat_web.py", "nanochat/report.py")
    assert "keep_alive needs scripts/chat_web.py" in Speedrun(tmp_path / "d", other, later, "keep_alive=1h").ends(2).log
    plain = Speedrun(tmp_path / "e", other, later).ends(0)
    assert (plain.output / "model" / "report.md").read_text().startswith("\n# nanochat d2, as it was measured")


def test_hours_and_money_of_a_size_are_known_before_anything_is_rented() -> None:
    def hours(gpu: str, *sets: str) -> list[float]:
        values = resolve(RECIPE, sets=list(sets))
        taken = fit.declared(needs_of(RECIPE, values), gpu, max(1, int(str(values["gpus"]))))
        return [round(seconds / 3600, 1) for seconds in (taken.low, taken.likely, taken.high)] if taken else []

    assert hours("H100 SXM", "size=d24") == [2.2, 3.0, 4.9], "upstream: three hours on 8 H100"
    assert hours("H100 SXM", "size=d20", "gpus=1")[1] == pytest.approx(8 * hours("H100 SXM", "size=d20")[1], abs=0.5)
    assert hours("H100 SXM") == [] and hours("a GPU of tomorrow", "size=d24") == []


def _at_work(folder: Path) -> list[str]:
    """Return the programs whose place is in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += [place.name] if os.readlink(place / "cwd").startswith(str(folder)) else []
    return found


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
