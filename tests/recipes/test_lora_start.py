"""How a start of recipe lora fails: the real traceback in the log, the reason in status.json, a code that says which. Without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.recipes.conftest import ROOT
from trainyard.recipes import bundle
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import inspect
from trainyard.recipes.values import resolve

STUBS = {
    "torch": (
        "import sys\nclass OutOfMemoryError(RuntimeError): pass\nclass utils:\n    class data:\n        Dataset = Sampler = object\n"
        "class nn:\n    functional = None\nsys.modules['torch.nn'] = nn\n"
    ),
    "safetensors": "import sys\n__path__ = []\nsys.modules['safetensors.torch'] = sys.modules[__name__]\n",
    "numpy": "int32 = bool = None\n",
    "transformers": "class TrainerCallback: pass\nclass Trainer: pass\n",
    "peft": "",
    "accelerate": (
        "import sys\n__path__ = []\nDistributedType = SeedableRandomSampler = None\n"
        "sys.modules |= {f'accelerate.{name}': sys.modules[__name__] for name in ('utils', 'data_loader')}\n"
    ),
    "model": "",
}
START = """
import sys
import rows, samples, train
def deep():
    {fails}
train.train = deep
sys.exit(train.main())
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start") / "run"
    recipe = load_recipe(ROOT, "lora")
    bundle.build(recipe, resolve(recipe, sets=["device=cpu"]), inspect(None, recipe), folder)
    for name, text in STUBS.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def run(made: Path, tmp_path: Path, program: str) -> CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "OUTPUT_DIR": str(tmp_path), "PYTHONPATH": str(made)}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("fails", "code", "message", "trace"),
    [
        ("{}['lost']", 1, "KeyError: 'lost'", True),
        ("sys.exit(0)", 1, "a library ended the program (exit code 0)", True),
        ("sys.exit(75)", 1, "a library ended the program (exit code 75)", True),
        ("raise train.torch.OutOfMemoryError('CUDA out of memory. Tried')", 1, "GPU memory is full", True),
        ("train.session._FULL = 1 << 70; raise RuntimeError('unexpected pos')", 1, "unexpected pos (No space left on device)", True),
        ("raise train.session.Refused('say better')", 2, "say better", False),
        ("raise samples.BadRows('3 of 4 rows cannot be trained:')", 2, "3 of 4 rows", False),
        ("raise rows.RowError('d.jsonl', 7, 'broken')", 2, "d.jsonl:7:1: broken", False),
    ],
)
def test_a_failed_start_says_why_and_where(made: Path, tmp_path: Path, fails: str, code: int, message: str, trace: bool) -> None:
    done = run(made, tmp_path, START.format(fails=fails))
    status = json.loads((tmp_path / "status.json").read_text())
    assert (done.returncode, status["state"]) == (code, "failed"), done.stderr
    assert message in status["message"] and message in done.stderr
    assert ("in deep" in done.stderr) is trace and ("Traceback" in done.stderr) is trace


def test_every_failure_before_the_weights_has_a_remedy() -> None:
    known = load_recipe(ROOT, "lora").known_failures
    for line in (
        "train: base_model /x: there is no such folder on this pod",
        "train: max_seq_length 9 is more than the 8 positions of a/b: set",
        "train: target_modules: a/b has no q_porj; it has q_proj",
        "train: 3 of 4 rows cannot be trained:",
        "train: SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
        "train: ValueError: The checkpoint has model type `x` but Transformers does not recognize this architecture.",
        "train: the loss is nan at step 1: lower learning_rate, or look at the data",
        "train: a GPU is asked for, but torch sees none on this machine",
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
        "OSError: [Errno 28] No space left on device",
        "train: RuntimeError: [enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598",
        "You are trying to access a gated repo.",
    ):
        assert [failure.remedy for failure in known if failure.pattern.search(line)], line


FILES = """
import sys, os, rows
os.makedirs(sys.argv[1] + "/hub/data")
for name in ("data/train-0.parquet", "data/test-0.parquet", "data/training_notes.jsonl", "other.csv", "train.txt"):
    open(sys.argv[1] + "/hub/" + name, "w").close()
print(rows.hub_files(sys.argv[1]), rows.hub_files(sys.argv[1], "test"))
try:
    rows.hub_files(sys.argv[1], "validation")
except rows.RowError as error:
    print(error)
"""


def test_the_files_of_a_split_are_chosen_by_their_names(made: Path, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(made)}
    done = subprocess.run([sys.executable, "-c", FILES, tmp_path], env=env, capture_output=True, text=True)
    assert "['hub/data/train-0.parquet'] ['hub/data/test-0.parquet']" in done.stdout, done.stderr
    assert "no file of split 'validation': fetched are hub/data/test-0.parquet" in done.stdout


REPORT = """
import samples
report = samples.Report()
report.rows = 5
report.note("cut", "d.jsonl:2")
for line in (3, 4, 5, 6):
    report.note("flawed", f"d.jsonl:{line}", "is empty")
print(*report.lines(256), report.as_json(), sep="\\n")
"""


STOPS = """
import samples
def read(run_dir, input_dir, config, report, held):
    report.rows += 1
    report.note("flawed", "d.jsonl:1", "is empty")
    return iter(())
samples.read = read
try:
    samples.encode("", "", {"max_seq_length": 9, "on_bad_row": "stop"}, None)
except samples.BadRows as error:
    print(error)
"""


def test_rows_that_stop_a_training_are_told_once_and_not_called_skipped(made: Path, tmp_path: Path) -> None:
    out = run(made, tmp_path, STOPS).stdout
    assert out.count("d.jsonl:1: is empty") == 1 and "are skipped" not in out


def test_the_report_counts_and_names_the_rows(made: Path, tmp_path: Path) -> None:
    out = run(made, tmp_path, REPORT).stdout
    assert "1 of 5 rows are longer than max_seq_length 256 and cut: the end of their answer is not learnt (d.jsonl:2)" in out
    assert (
        "4 of 5 flawed rows are skipped, as on_bad_row says (d.jsonl:3, d.jsonl:4, d.jsonl:5, ...)" in out and "d.jsonl:6: is empty" in out
    )
    assert "'cut': 1, 'dropped': 0, 'not_learnt': 0, 'flawed': 4" in out


def test_a_disk_that_takes_no_status_hides_no_reason(made: Path, tmp_path: Path) -> None:
    (tmp_path / "status.json.partial").mkdir()
    done = run(made, tmp_path, START.format(fails="raise OSError(28, 'No space left on device')"))
    assert done.returncode == 1 and done.stderr.endswith("train: OSError: [Errno 28] No space left on device\n")
