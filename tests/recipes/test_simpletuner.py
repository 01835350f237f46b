"""Recipe simpletuner: what is judged of images before renting, what SimpleTuner is told, how its metrics and its end are told.

In the suite a stand-in with the files and signals of SimpleTuner's command takes its place; `invoke recipes.long -- -k simpletuner` trains
with SimpleTuner itself, where an environment of its lock is there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from trainyard import config
from trainyard.errors import UserError
from trainyard.recipes import basecheck, basemodel, bundle, code, images, venvs
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import Data, inspect
from trainyard.recipes.values import needs_of, python_of, resolve

RECIPE = load_recipe(ROOT, "simpletuner")
STAND_IN = Path(__file__).parent / "data" / "simpletuner_stand_in.py"


def png(width: int, height: int, shade: int = 0, packed: bytes | None = None) -> bytes:
    """Return a picture of one colour, or of packed rows that need not be what its head says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress((b"\0" + bytes([shade] * 3 * width)) * height) if packed is None else packed
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08\x00\x50\x00\x60\x01\x01\x11\x00\xff\xda\x00\x02data\xff\xd9"
WEBP = {
    "lossy": b"VP8 \x10\0\0\0" + b"\0" * 6 + struct.pack("<HH", 96, 80) + b"\0" * 6,
    "lossless": b"VP8L\x08\0\0\0\x2f" + struct.pack("<I", 95 | 79 << 14) + b"\0" * 3,
    "more": b"VP8X\x0a\0\0\0" + b"\0" * 4 + (95).to_bytes(3, "little") + (79).to_bytes(3, "little"),
}


def folder(top: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return top


def looked_at(top: Path, *sets: str) -> Data:
    return inspect(str(top), RECIPE, values=resolve(RECIPE, sets=list(sets)))


# What is judged before renting


@pytest.mark.parametrize("form", WEBP)
def test_the_size_of_an_image_is_read_without_a_library(tmp_path: Path, form: str) -> None:
    webp = b"RIFF" + struct.pack("<I", 4 + len(WEBP[form])) + b"WEBP" + WEBP[form]
    for content in (png(96, 80), JPEG, webp, JPEG + b"a camera's own\xff"):
        (tmp_path / "x").write_bytes(content)
        with (tmp_path / "x").open("rb") as stream:
            assert images.size_of(stream) == (96, 80)


def test_each_flaw_is_named_with_its_file_before_anything_is_rented_and_can_be_left_out(tmp_path: Path) -> None:
    lines = [{"file_name": "d.png", "text": "dee"}, {"file_name": "z.png", "text": "zed"}, {"file_name": "a.png"}]
    top = folder(
        tmp_path,
        {
            "a.png": png(96, 80), "a.txt": "a shape", "b.png": png(96, 80)[:-9], "b.txt": "b", "c.jpg": "text", "c.txt": "c",
            "d.png": png(70, 70), "e.png": png(96, 40), "e.txt": "e", "f.png": png(96, 80, 1), "g.png": png(96, 80, 2), "g.txt": " \n",
            "h.webp": b"", "i.png": png(96, 80), "i.txt": "again", "sub/j.JPEG": JPEG[:-2], "notes.md": "x",
            "metadata.jsonl": "\n".join([*map(json.dumps, lines), "{"]),
        },
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        looked_at(top)
    told = f"{caught.value.where} {caught.value.message}\n{caught.value.hint}"
    for part in (
        "metadata.jsonl:2:1 names z.png, which is not there", "metadata.jsonl:3: has no caption (text",
        "metadata.jsonl:4: the line is no object",
        "b.png: is no whole image", "c.jpg: is no PNG, JPEG or WebP image", "e.png: is 96 x 40 pixels, and 64 is the least",
        "f.png: has no caption: neither", "g.png: has an empty caption", "h.webp: is empty", "10 are flawed, 3 are not",
        "sub/j.JPEG: is no whole image", "on_bad_row=skip",
    ):  # fmt: skip
        assert part in told, part
    assert told.count("names z.png") == 1

    data = looked_at(top, "on_bad_row=skip")
    assert data.rows == 3 and data.skipped_rows == 10 and "image and caption" in data.describe()
    assert "not used: notes.md, i.png (the same image as a.png)" in data.remarks()


@pytest.mark.parametrize("packed", [b"", b"garbage", zlib.compress(bytes(80 * 289 - 1))])
def test_a_png_whose_parts_are_whole_and_whose_picture_cannot_be_read_is_named(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(UserError, match=r"^a b.png: is no whole image: (its picture ends too early|a part of it is damaged)"):
        looked_at(folder(tmp_path, {"a b.png": png(96, 80, packed=packed)}), "instance_prompt=a")


def test_one_caption_for_all_or_the_names_of_files_need_no_text(tmp_path: Path) -> None:
    top = folder(tmp_path, {"a.png": png(96, 80)})
    assert looked_at(top, "instance_prompt=a sks dog").rows == looked_at(top, "caption_strategy=filename").rows == 1
    with pytest.raises(UserError, match="the data hold no image"):
        looked_at(folder(tmp_path / "none", {"a.txt": "x"}))
    with pytest.raises(UserError, match="needs the caption"):
        resolve(RECIPE, sets=["caption_strategy=instanceprompt"])


# What SimpleTuner is told, and what is told of it


class Run:
    """A rendered run whose SimpleTuner is the stand-in."""

    def __init__(self, top: Path, *sets: str, files: dict[str, str | bytes] | None = None) -> None:
        self.top = top
        source = folder(top / "data", files or {"a_red_dot.png": png(96, 80), "a_red_dot.txt": "a red dot"})
        values = resolve(RECIPE, sets=list(sets))
        data = inspect(str(source), RECIPE, values=values)
        bundle.build(RECIPE, values, data, top / "run", code=code.of_run(RECIPE, values))
        bundle.place_data(data, top / "input")
        (top / "bin").mkdir()
        command = top / "bin/simpletuner"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
        command.chmod(0o755)
        (top / "bin/python").symlink_to(sys.executable)

    def start(self) -> subprocess.Popen[str]:
        env = {"PATH": f"{self.top}/bin:/usr/bin:/bin", "HOME": str(self.top), "PYTHONPATH": ""}
        with (self.top / "log").open("a") as log:
            return subprocess.Popen(
                ["sh", "-c", f"trap : TERM; {sys.executable} train.py & wait $!; wait $!"], cwd=self.top / "run", stdout=log, stderr=log,
                text=True, start_new_session=True,
                env=env | {"RUN_DIR": f"{self.top}/run", "WORKSPACE": str(self.top), "INPUT_DIR": f"{self.top}/input",
                           "OUTPUT_DIR": f"{self.top}/output", "CODE_DIR": f"{self.top}/run/code"},
            )  # fmt: skip

    def done(self, code: int = 0) -> Run:
        assert self.start().wait(60) == code, self.log
        return self

    @property
    def log(self) -> str:
        return (self.top / "log").read_text()

    def told(self, name: str) -> Any:
        return json.loads((self.top / "simpletuner/config" / name).read_text())

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.top / "output/metrics.jsonl").read_text().splitlines()]


FLUX = ("model_family=flux", "model_flavour=dev", "minimum_image_size=64")


def test_variables_become_simpletuners_files_and_its_metrics_become_ours(tmp_path: Path) -> None:
    run = Run(tmp_path, *FLUX, "max_train_steps=4", "options=flow_schedule_shift=3,snr_gamma=5", "gpus=2", "device=cpu").done()

    told, (pictures, texts) = run.told("config.json"), run.told("multidatabackend.json")
    assert told["model_family"] == "flux" and told["model_flavour"] == "dev" and told["lora_rank"] == told["lora_alpha"] == 16
    assert told["flow_schedule_shift"] == 3 and told["resume_from_checkpoint"] == "latest" and told["report_to"] == "simpletuner"
    assert "pretrained_model_name_or_path" not in told, "the flavour names the base"
    assert pictures["instance_data_dir"] == f"{tmp_path}/simpletuner/images" and pictures["caption_strategy"] == "textfile"
    assert texts["dataset_type"] == "text_embeds" and texts["default"] is True
    seen = json.loads((tmp_path / "output/model/seen.json").read_text())
    assert seen["processes"] == "2" and seen["precision"] == "bf16" and seen["captions"] == ["a red dot\n"] and seen["sitecustomize"]
    assert [(line["step"], line["total_steps"], line["loss"]) for line in run.metrics()] == [
        (1, 4, 1.0),
        (2, 4, 0.5),
        (3, 4, 0.25),
        (4, 4, 0.125),
    ]
    assert all(line["time"] > 0 and "system/cpu_percent" not in line for line in run.metrics())


def test_a_stop_reaches_its_children_and_what_goes_on_begins_at_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path, *FLUX, "max_train_steps=6")
    (tmp_path / "wait-at").write_text("3")
    process = run.start()
    while not (tmp_path / "waiting").exists():
        assert process.poll() is None, run.log
        time.sleep(0.02)
    child = int((tmp_path / "waiting").read_text())
    os.killpg(process.pid, signal.SIGTERM)  # as a stop comes: to a group, whose interrupts a shell has had ignored
    assert process.wait(30) == 75, run.log
    assert not Path(f"/proc/{child}").exists(), "its training has a session of its own"

    (tmp_path / "wait-at").unlink()
    (tmp_path / "output/model/checkpoint-9").mkdir()
    run.done()
    assert [line["step"] for line in run.metrics()] == [1, 2, 3, 4, 5, 6], "from checkpoint-3, and not from the half one"
    assert not (tmp_path / "output/model/checkpoint-9").exists()


def test_a_config_folder_of_ones_own_is_taken_as_it_is_but_for_its_places(tmp_path: Path) -> None:
    own = folder(
        tmp_path / "own",
        {
            "config.json": json.dumps({"--model_family": "sana", "output_dir": "output/x", "max_train_steps": 2,
                                       "lycoris_config": "config/l.json",
                                       "data_backend_config": "config/examples/back.json", "mixed_precision": "fp16"}),
            "back.json": json.dumps([{"id": "d", "type": "local", "instance_data_dir": "datasets/dog/", "cache_dir_vae": "c", "repeats": 7},
                                     {"id": "t", "dataset_type": "text_embeds", "type": "local", "cache_dir": "x"}]),
            "l.json": "{}", "requirements.txt": "nothing-of-ours==1\n",
        },
    )  # fmt: skip
    files: dict[str, str | bytes] = {"dog/a.png": png(300, 300), "dog/a.txt": "a dog"}
    run = Run(tmp_path / "pod", f"config_dir={own}", files=files).done()

    told, (pictures, texts) = run.told("config.json"), run.told("multidatabackend.json")
    assert (
        told["model_family"] == "sana"
        and told["output_dir"] == f"{tmp_path}/pod/output/model"
        and told["lycoris_config"] == "config/l.json"
    )
    assert pictures["instance_data_dir"] == f"{tmp_path}/pod/simpletuner/images/dog" and pictures["repeats"] == 7
    assert texts["cache_dir"].startswith(f"{tmp_path}/pod/simpletuner/cache/") and (tmp_path / "pod/simpletuner/config/l.json").is_file()
    assert "nothing-of-ours" not in (tmp_path / "pod/run/run.sh").read_text(), "the packages are those of the lock"
    assert "requirements.txt" not in (tmp_path / "pod/run/recipe.json").read_text()
    assert "output_dir: output/x is what the run says" in run.log and "d: images of datasets/dog are those of the data" in run.log
    assert json.loads((tmp_path / "pod/output/model/seen.json").read_text())["precision"] == "fp16"


@pytest.mark.parametrize(
    ("sets", "config", "message"),
    [
        (("options=output_dir=/x",), None, "options: 'output_dir=/x' is set by the run itself"),
        (("options=use_ema",), None, "options: 'use_ema' is no name=value"),
        ((), {"config.json": "{", "multidatabackend.json": "[]"}, "config.json of the config folder is no JSON"),
        ((), {"config.json": "{}"}, "multidatabackend.json of the config folder cannot be read"),
        ((), {"config.json": "{}", "multidatabackend.json": "[1]"}, "multidatabackend.json of the config folder must be a list of objects"),
    ],
)
def test_what_simpletuner_could_not_read_is_refused_in_one_line(
    tmp_path: Path, sets: tuple[str, ...], config: dict[str, str | bytes] | None, message: str
) -> None:
    own = [f"config_dir={folder(tmp_path / 'own', config)}"] if config else []
    run = Run(tmp_path / "pod", *FLUX, *sets, *own).done(2)
    assert message in run.log and "Traceback" not in run.log


def test_what_a_run_needs_is_said_and_what_cannot_be_is_refused() -> None:
    tiny, flux = resolve(RECIPE), resolve(RECIPE, sets=list(FLUX))
    assert needs_of(RECIPE, tiny)["gpus"] == 0 and needs_of(RECIPE, flux)["vram_gb"] == 24 and python_of(RECIPE) == "3.12"
    for sets, message in (
        (["model_family=flux", "base_model=tiny-sdxl"], "tiny-sdxl is of the family sdxl"),
        (["model_type=full", "base_model_precision=nf4-bnb"], "is for a base that is not trained itself"),
    ):
        with pytest.raises(UserError, match=message):
            resolve(RECIPE, sets=sets)


def test_a_line_that_a_kill_has_torn_ends_no_training_and_images_of_one_name_keep_their_captions(tmp_path: Path) -> None:
    lines = [{"file_name": "a.png", "text": "one"}, {"file_name": "a.jpg", "text": "two"}]
    files: dict[str, str | bytes] = {"a.png": png(96, 80), "a.jpg": JPEG, "metadata.jsonl": "\n".join(map(json.dumps, lines))}
    run = Run(tmp_path, *FLUX, "max_train_steps=3", files=files)
    (tmp_path / "output/model").mkdir(parents=True)
    (tmp_path / "output/model/training_metrics.jsonl").write_text('{"metrics": {"train_l')
    run.done()
    assert [line["step"] for line in run.metrics()] == [2, 3], "the first one stands behind the torn line"
    laid = {path.name: path.read_text() for path in (tmp_path / "simpletuner/images").glob("*.txt")}
    assert laid == {"a.txt": "two\n", "a-png.txt": "one\n"} and (tmp_path / "simpletuner/images/a-png.png").is_file()


def test_the_tiny_base_is_looked_up_nowhere_and_a_folder_must_be_a_pipeline(tmp_path: Path) -> None:
    assert resolve(RECIPE)["base_model"] in basemodel.MADE
    values = resolve(RECIPE, sets=[f"base_model={tmp_path}"])
    with pytest.raises(UserError, match=r"is no model: it holds no model_index\.json"):
        basecheck.refuse(values, on_this_machine=True, volume=False)
    (tmp_path / "model_index.json").write_text("{}")
    basecheck.refuse(values, on_this_machine=True, volume=False)


# SimpleTuner itself


def environment() -> Path:
    """Return the ready environment of the recipe's lock."""
    envs = Path(os.environ.get("TRAINYARD_ENVS") or config.places().cloud / "envs")
    path = envs / venvs.key_of(RECIPE.locks["cpu"], python_of(RECIPE))
    if not (path / venvs.STAMP).is_file():
        pytest.skip(
            "no ready environment of templates/simpletuner/packages.lock: `invoke train --recipe simpletuner --stack local` makes it"
        )
    return path


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(600)
def test_simpletuners_own_parser_knows_each_option_that_is_written_and_each_choice(tmp_path: Path) -> None:
    run = Run(tmp_path, *FLUX, "max_train_steps=1").done()
    asks = (
        "import json, sys; from simpletuner.helpers.configuration.cmd_args import get_argument_parser as parser; "
        "names = {s.lstrip('-'): a.choices and list(a.choices) for a in parser()._actions for s in a.option_strings}; "
        "json.dump(names, open(sys.argv[1], 'w'))"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([environment() / "bin/python", "-c", asks, tmp_path / "options"], env=env, check=True, capture_output=True)
    options = json.loads((tmp_path / "options").read_text())
    written = run.told("config.json")
    assert set(written) <= set(options)
    for variable in (variable for variable in RECIPE.variables if variable.name in written):
        known = options[variable.name]
        assert not known or set(map(str, variable.choices)) <= set(map(str, known)), variable.name


@pytest.mark.torch
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_simpletuner_itself_trains_the_sample_on_a_cpu_and_goes_on(tmp_path: Path) -> None:
    envs = Path(os.environ.get("TRAINYARD_ENVS") or config.places().cloud / "envs")
    if not (envs / venvs.key_of(RECIPE.locks["cpu"], python_of(RECIPE)) / venvs.STAMP).is_file():
        pytest.skip(
            "no ready environment of templates/simpletuner/packages.lock: `invoke train --recipe simpletuner --stack local` makes it"
        )
    values = resolve(RECIPE, sets=["max_train_steps=3"])
    data = inspect(None, RECIPE, values=values)
    bundle.build(RECIPE, values, data, tmp_path / "run")
    bundle.place_data(data, tmp_path / "input")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TRAINYARD_ENVS": str(envs), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    first = subprocess.run(["sh", tmp_path / "run/run.sh"], env=env, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr[-3000:]
    model = tmp_path / "output/model"
    assert (model / "pytorch_lora_weights.safetensors").stat().st_size > 1000 and (model / "checkpoint-3/.guard").is_file()
    assert list((model / "validation_images").glob("step_3_*.png"))

    longer = resolve(RECIPE, sets=["max_train_steps=6"])
    shutil.rmtree(tmp_path / "run")
    bundle.build(RECIPE, longer, data, tmp_path / "run")
    again = subprocess.run(["sh", tmp_path / "run/run.sh"], env=env, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "output/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6] and (model / "checkpoint-6/.guard").is_file()
