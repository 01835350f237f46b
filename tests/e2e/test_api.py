"""The Python API on real runs: what the page shows, the notebook and the Airflow example do what they say, and nothing is printed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.e2e.yard import ROOT, Yard

SKELETON = ROOT / "trainyard" / "cli" / "skeleton"


def test_the_pages_examples_the_notebook_and_the_dag_do_what_they_say_without_a_byte_printed(yard: Yard) -> None:
    recipe = yard.root / "templates" / "example"  # as `trainyard init` writes it
    (yard.root / "templates").unlink()
    recipe.mkdir(parents=True)
    shutil.copy(SKELETON / "recipe.yaml", recipe / "recipe.yaml")
    slower = (SKELETON / "train.txt").read_text().replace("        if stopped:", "        time.sleep(0.02)\n        if stopped:")
    (recipe / "train.py").write_text(slower)  # so that the notebook still finds its run at work
    file = yard.base / "seen.json"
    program = Path(__file__).with_name("apiprogram.py")

    env = {**yard.env, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, program, yard.root, file], env=env, cwd="/", capture_output=True, text=True, timeout=280)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    seen = json.loads(file.read_text())
    success, sha256, paths = seen["first"]
    assert success and len(sha256) == 64 and paths == ["out/first/line.json"]
    assert seen["printed"][0].startswith("tester/first 0.0") and any(
        line.startswith("succeeded 50 ['prepared'") for line in seen["printed"]
    )
    success, run, steps = seen["second"]
    assert success and steps == 300
    assert [line for line in seen["printed"] if line in ("trained", "committed", "succeeded")] == ["trained", "committed", "succeeded"]
    assert any(line.startswith("step 300/300  loss 0.0") for line in seen["printed"])
    assert seen["again"] == [True, "tester/again", "tester/later", "queued"]
    assert seen["runs"] == [["tester/first", "succeeded"], ["tester/again", "succeeded"], [run, "succeeded"]]
    assert seen["dag"]["result"]["run"] == "tester/first" and seen["dag"]["files"] == [f"{yard.root}/out/dag/tester/first/line.json"]
    assert yard.pods() == []
