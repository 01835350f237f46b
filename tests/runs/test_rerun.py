"""What a run was made of is kept; from that it is shown, run again, and held against others."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pulumi
import pytest

from tests.recipes.test_code import git
from tests.runs.road import STACK, Road
from trainyard.cli.usage import runs_named
from trainyard.errors import UserError
from trainyard.program.settings import keep_secret
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.data import BucketFile
from trainyard.recipes.summaries import DataFile, DataSummary
from trainyard.runs.life import follow
from trainyard.runs.life.drive import drive
from trainyard.runs.records import snapshot
from trainyard.runs.records.curves import Drawn, Panel, panels_of, picture
from trainyard.runs.records.progress import loss_curve
from trainyard.runs.records.record import RunFolder
from trainyard.runs.records.summary import RunSummary
from trainyard.runs.verbs import compare, diff, past, plots, rerun, show
from trainyard.runs.verbs.rerun import RerunRequest, prepare
from trainyard.settings.table import build

JOB = """
echo "{\\"step\\": 1, \\"total_steps\\": 2, \\"loss\\": $1.5}" >>$OUTPUT_DIR/metrics.jsonl
echo "{\\"step\\": 2, \\"total_steps\\": 2, \\"loss\\": $1.25}" >>$OUTPUT_DIR/metrics.jsonl
mkdir -p $OUTPUT_DIR/model; echo m >$OUTPUT_DIR/model/m.txt
"""


@pytest.fixture
def road(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    made = Road(tmp_path, monkeypatch)
    made.patch(follow, "_ASK_CLOUD_FIRST", 0.2)
    monkeypatch.chdir(made.context.places.root)
    (made.context.places.root / "rows.txt").write_text("one\ntwo\n")
    yield made
    made.lose_pod()


def fresh_pod(road: Road) -> None:
    road.workspace.rename(road.workspace.with_name(f"gone-{len(list(road.workspace.parent.iterdir()))}"))
    road.armed()


def trained(road: Road, name: str = "a", **asked: Any) -> RunSummary:
    summary = road.run(JOB, name=name, sets=("args=3",), data="rows.txt", **asked)
    fresh_pod(road)
    return summary


def again(road: Road, run: str = "a", name: str = "b", **asked: Any) -> RunSummary:
    summary = drive(road.context, prepare(road.context, RerunRequest(run, name=name, **asked)))
    fresh_pod(road)
    return summary


def folder(road: Road, label: str) -> RunFolder:
    return RunFolder(road.context.places.runs / "ann" / label / "1")


def own_recipe(road: Road) -> Path:
    """Give the repository a recipe of its own in git, with one change that is not committed; return a file of it."""
    root = road.context.places.root
    ours = Path(__file__).resolve().parents[2] / "templates" / "command"
    for path in ours.iterdir():
        (root / "templates" / "command").mkdir(parents=True, exist_ok=True)
        (root / "templates" / "command" / path.name).write_bytes(path.read_bytes())
    (root / ".gitignore").write_text(".trainyard/\nout/\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "templates", ".gitignore", "Pulumi.yaml")
    git(root, "commit", "-qm", "x")
    script = root / "templates" / "command" / "command.sh.j2"
    script.write_text("# as it was\n" + script.read_text())
    return script


def test_a_rerun_is_the_run_again_whatever_became_of_recipe_script_and_checkout(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    script = own_recipe(road)
    first = trained(road)
    kept = snapshot.read(folder(road, "a").snapshot)
    assert kept is not None and kept.repositories[0].files == ("job.sh", "templates/command/command.sh.j2")
    assert b"# as it was" in (folder(road, "a").snapshot / "checkout.patch").read_bytes()
    assert folder(road, "a").load().snapshot_sha256 == snapshot.digest(folder(road, "a").snapshot)
    assert "snapshot   checkout " in road.said() and first.git_commit is not None and first.git_commit.endswith("-dirty")
    script.write_text("exit 9\n")
    road.script.write_text("exit 9\n")
    git(road.context.places.root, "add", ".")
    git(road.context.places.root, "commit", "-qm", "y")

    second = again(road)

    assert second.success and second.bundle_sha256 == first.bundle_sha256 and second.git_commit == first.git_commit
    assert "the same bundle, byte for byte" in road.said() and folder(road, "b").load().rerun_of == "ann/a/1"
    assert second.final_loss == first.final_loss == 3.25
    third = again(road, "b", "c", sets=("args=4",))
    assert third.final_loss == 4.25 and third.bundle_sha256 != first.bundle_sha256
    seen = diff.diff(road.context, "a", "ann/c/1", None)
    assert (
        seen.values == {"args": (["3"], ["4"])} and seen.outcome["loss"] == (3.25, 4.25) and seen.data == () and "commit" not in seen.asked
    )
    assert [file.path for file in seen.code] == ["command.sh"] and any(line.endswith("job.sh 4") for line in seen.code[0].diff)
    assert any(line.startswith("values     args: 3 -> 4") for line in diff.lines(seen))
    monkeypatch.setattr(past, "store_of", lambda *_: pytest.fail("no store is asked for what lies here"))
    assert diff.lines(diff.diff(road.context, "a", "b", None))[-1] == "code       the same"


def test_data_that_are_not_as_they_were_are_refused_before_anything_is_rented(road: Road) -> None:
    trained(road)
    rented = len(road.engine.asked)
    (road.context.places.root / "rows.txt").write_text("three\n")
    with pytest.raises(UserError, match="is another file now, and a rerun trains on the data that the run had"):
        again(road)
    with pytest.raises(UserError, match="no run 'nobody' here, and no bucket of stack 'local' can be asked"):
        again(road, "nobody")
    assert len(road.engine.asked) == rented and not folder(road, "b").path.exists()


def test_an_object_of_the_data_that_is_gone_or_another_one_is_refused_unless_its_version_is_kept(road: Road) -> None:
    there = {"s3://b/x": "1", "s3://b/y": "2"}
    road.patch(rerun, "resolver", lambda *_: lambda _: [BucketFile(url, url, 1, None, etag=etag) for url, etag in there.items()])
    files = tuple(DataFile(url, url[-1], None, 1, 0, etag=etag, version="v" if url[-1] == "y" else "") for url, etag in there.items())
    base = replace(road.prepare(JOB, name="a").load(), data=DataSummary(reference="s3://b/", kind="s3", files=files))
    target = rerun._Target(STACK, road.context.settings(STACK), road.cloud, "ann")
    recipe = load_recipe(road.context.places.root, "command")
    there["s3://b/y"] = "another"
    assert rerun._data(road.context, base, recipe, target, "no others do").files == files
    there["s3://b/x"] = "another"
    with pytest.raises(UserError, match="s3://b/x is another object now"):
        rerun._data(road.context, base, recipe, target, "no others do")
    del there["s3://b/y"]
    there["s3://b/x"] = "1"
    with pytest.raises(UserError, match="s3://b/y is not there any more"):
        rerun._data(road.context, base, recipe, target, "no others do")


def test_a_run_that_is_older_than_snapshots_is_run_again_with_the_recipe_of_this_checkout_and_that_is_said(road: Road) -> None:
    trained(road)
    kept = folder(road, "a").snapshot
    kept.rename(kept.with_name("lost"))
    # On another stack, too: its settings, its pod, and what the run was.
    (road.context.places.root / "Pulumi.other.yaml").write_text(road.settings.read_text())
    done = again(road, stack="other", hours=0.5)
    assert done.success and done.stack == "other" and "has no snapshot of its recipe command" in road.said()
    assert folder(road, "b").load().hours == 0.5 and folder(road, "a").load().hours != 0.5


def test_settings_are_kept_without_secrets(road: Road) -> None:
    road.settle("pod_env: {A: b, KEY: {secure: v1:sealed}}")
    own = snapshot.settings_of(road.prepare(JOB, name="a").snapshot)
    assert own["pod_env"] == {"A": "b", "KEY": "(encrypted)"} and own["upload_consent"] == "always" and "max_price" not in own


def test_a_login_of_a_registry_is_a_secret_however_its_file_holds_it() -> None:
    """It went into the bucket with the snapshot, and into the state."""
    settings = build({"cloud": "vast", "registry": "-u me -p hunter2 ghcr.io"}, "vast")
    assert snapshot._settings(settings)["trainyard:registry"] == "(encrypted)"
    assert snapshot._settings(build({"cloud": "runpod", "registry": "cm1abc"}, "runpod"))["trainyard:registry"] == "cm1abc"

    async def is_secret(value: str | None) -> bool:
        kept = keep_secret("registry", value)
        return isinstance(kept, pulumi.Output) and await kept.is_secret()

    login, name = (asyncio.run(is_secret(value)) for value in (str(settings.registry), "cm1abc"))
    assert login and not name


def test_the_page_of_a_run_fits_80_columns_and_ends_with_commands_that_go_on(road: Road) -> None:
    trained(road)
    page = show.show(road.context, "ann/a", None)
    page = replace(page, settings={**page.settings, "lifecycle": [{"id": "old", "expire_days": 30}], "gpus": ["L4", "RTX 4090"]})
    text = show.lines(page)
    assert json.dumps(asdict(page))
    assert page.state == "succeeded" and page.here and page.events[0].kind == "prepared"
    commands = text.index("go on      invoke logs ann/a/1")
    assert text[commands + 1 :] == [f"{'':11}invoke rerun ann/a/1"] and all(len(line) <= 80 or "/" in line for line in text[:commands])
    joined = "\n".join(text)
    for part in (
        "stages     ",
        "not training",
        "values     args: 3",
        "rows.txt",
        "versions   trainyard",
        f"stack {STACK}",
        "3.5000 -> 3.2500",
        'lifecycle: [{"id": "old", "expire_days": 30}]',
        "gpus: L4 'RTX 4090'",
    ):
        assert part in joined


def test_runs_side_by_side_have_a_table_what_differs_and_their_curves(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(road)
    again(road, sets=("args=4",))
    rows = compare.compare(road.context, ["a", "b", "a"], None)
    assert [(row.mark, row.run, row.loss, row.best, row.differing) for row in rows] == [
        ("1", "ann/a/1", 3.25, 3.25, {"args": "3"}), ("2", "ann/b/1", 4.25, 4.25, {"args": "4"}),
    ]  # fmt: skip
    text = compare.lines(rows)
    assert text[1].startswith("1  succeeded  2      3.2500") and "1: 3, 2: 4" in text[3] and all(len(line) <= 80 for line in text)
    assert any("1" in line and line.startswith("    3.4") for line in text) and "(step)" in text[-2]
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(UserError, match="a picture needs the package 'matplotlib"):
        compare.draw(rows, road.context.places.root / "x.png")
    with pytest.raises(UserError, match="too many for one picture"):
        compare.compare(road.context, [f"r{number}" for number in range(40)], None)


@pytest.mark.extras("matplotlib")
def test_curves_are_drawn_into_a_picture(tmp_path: Path) -> None:
    curves = [Drawn("1", "a (lr=1)", ((1, 3.0), (2, 0.5))), Drawn("2", "b", ((1, 2.0),))]
    picture([Panel("loss", curves)], tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", data[16:24]) == (1350, 750)
    with pytest.raises(UserError, match="the picture cannot be written"):
        picture([Panel("loss", curves)], tmp_path / "x.nothing")


def test_a_run_has_panels_of_its_losses_its_rate_and_its_gpus_and_of_each_figure_that_is_asked_for() -> None:
    rows = [{"step": n, "loss": 9 - n, "lr": 0.1, "gpu_memory_gb": 3, "x": n, "eval_loss": 8 if n == 2 else None} for n in (1, 2)]
    metrics = "".join(json.dumps(row) + "\n" for row in rows).encode()
    shown = [(panel.figure_of, [(each.mark, each.label, each.curve) for each in panel.curves]) for panel in panels_of(metrics)]
    assert shown == [
        ("loss", [("*", "loss", ((1, 8.0), (2, 7.0))), ("o", "eval_loss", ((2, 8.0),))]),
        ("lr", [("*", "lr", ((1, 0.1), (2, 0.1)))]),
        ("gpu_memory_gb", [("*", "gpu_memory_gb", ((1, 3.0), (2, 3.0)))]),
    ]
    assert [(panel.figure_of, len(panel.curves)) for panel in panels_of(metrics, ["x", "y"])] == [("x", 1), ("y", 0)]


def test_one_run_is_plotted_in_the_width_of_a_terminal_and_what_it_has_not_reported_is_said(road: Road) -> None:
    trained(road)
    text = plots.lines(plots.panels(road.context, "a", None, ()), 80)
    assert text[0] == "* loss" and "(step)" in text[-2] and all(len(line) <= 80 for line in text)
    with pytest.raises(UserError, match="ann/a/1 has reported no eval_loss"):
        plots.panels(road.context, "a", None, ("eval_loss",))


@pytest.mark.extras("matplotlib")
def test_the_curves_of_a_run_lie_beside_its_files_when_it_is_over(road: Road) -> None:
    road.context = replace(road.context, env={**road.context.env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    trained(road)
    there, deadline = road.context.places.root / "out" / "ann" / "a" / "metrics.png", time.monotonic() + 60
    while not there.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert there.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_curve_is_of_numbers_and_what_was_trained_twice_counts_as_it_was_last() -> None:
    lines = b'{"step": 2, "loss": 1.0}\n{"step": 1, "loss": 3}\nno\n[1]\n{"step": 3, "loss": NaN}\n{"step": 2, "loss": 0.5}\n{"loss": 1}\n'
    assert loss_curve(lines) == ((1, 3.0), (2, 0.5))


def test_runs_behind_compare_are_each_an_option_to_invoke() -> None:
    words = ["invoke", "compare", "a", "--png", "x.png", "u/b/2", "-s", "dev", "--json"]
    assert runs_named(words) == ["invoke", "compare", "--run", "a", "--png", "x.png", "--run", "u/b/2", "-s", "dev", "--json"]
    assert runs_named(["invoke", "show", "a"]) == ["invoke", "show", "a"]
