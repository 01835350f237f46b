"""A controller that never comes back: the pod commits alone, ends itself, and any clone of the repository seals the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.yard import Yard, kill_tree


@dataclass
class Clone(Yard):
    """Another clone of the same repository: the same settings and cloud, and no record of any run."""

    @property
    def root(self) -> Path:
        return self.base / "w2"


def lone(yard: Yard, *words: str, minutes: str = "0.03", **more: float) -> None:
    """Train, kill the controller for good once the pod has its plan, and wait until the pod has ended itself."""
    settings = yard.root / "Pulumi.local.yaml"
    settings.write_text(settings.read_text() + f"  trainyard:commit_alone_minutes: {minutes}\n")
    running = yard.start(*yard.train("--name", "a", *words, **more))  # type: ignore[arg-type]
    yard.wait_for(lambda: yard.record("a").get("commits_alone"))
    kill_tree(running)
    yard.wait_for(lambda: not yard.pods())


def test_a_lost_laptop_costs_no_result_and_no_rest_of_the_lease(yard: Yard, tmp_path: Path) -> None:
    lone(yard, steps=10, pause=0.3)
    clone = Clone(yard.base, yard.extra)

    said = clone.invoke("recover").expect()
    clone.invoke("download", "tester/a", str(tmp_path / "got"), "--whole").expect()

    assert "sealed     tester/a/1: committed" in said.out
    assert (tmp_path / "got/model/model.txt").read_text() == "steps 10\n"
    assert (tmp_path / "got/model/weights.bin").read_bytes() == bytes(300000)
    done = yard.invoke("attach", "a", "--json").expect().json()
    assert done["success"] and yard.record("a")["phase"] == "ended"
    assert "step 10 of 10" in (yard.home / "runs/tester/a/1/train.log").read_text()


def test_attach_judges_a_failed_run_by_the_word_of_its_pod(yard: Yard) -> None:
    script = yard.base / "fails.sh"
    script.write_text('mkdir -p "$OUTPUT_DIR/model"; echo half >"$OUTPUT_DIR/model/a"; sleep 4; exit 3\n')
    lone(yard, "--set", f"script={script}")

    done = yard.invoke("attach", "a", "--json").expect(1)

    summary = done.json()
    assert not summary["success"] and summary["kept"]["why"] == "exited 3" and summary["kept"]["exit_code"] == 3
    assert yard.pods() == []
