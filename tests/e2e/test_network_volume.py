"""Results on RunPod's own S3: the pod copies into its mounted network volume, the controller proves it through S3."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.yard import COUNT, Yard

VOLUME = "agv6w2qcg7"
KEYS = {
    "RUNPOD_S3_ACCESS_KEY": "user_x", "RUNPOD_S3_SECRET_KEY": "rps_x", "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io/",
    "RUNPOD_S3_BUCKET": VOLUME,
}  # fmt: skip


@pytest.fixture
def runpod(yard: Yard) -> Yard:
    # Names of older guides, too: they choose the GPU and the template.
    yard.extra = {**KEYS, "RUNPOD_GPU_TYPE": "NVIDIA GeForce RTX 4090", "RUNPOD_TEMPLATE_ID": "30zmvf89kd"}
    return yard


def rehearse(yard: Yard, *settings: str) -> tuple[str, dict[str, Any], Path]:
    path = yard.root / "Pulumi.runpod.yaml"
    path.write_text(path.read_text().rstrip("\n") + "\n" + "".join(f"  trainyard:{line}\n" for line in settings))
    words = ("--set", f"script={COUNT}", "--set", "args=3 0.05", "--name", "a")
    done = yard.invoke("rehearse", "--stack", "runpod", "--recipe", "command", *words).expect()
    base = yard.home / "rehearsal/runpod"
    summary = json.loads((base / "checkout/.trainyard/runs/tester/a/1/run-summary.json").read_text())
    assert summary["success"] and summary["simulated"]
    return done.out, summary, base


def test_the_result_goes_into_the_mounted_volume_and_counts_there(runpod: Yard) -> None:
    out, summary, base = rehearse(runpod, f"volume: {VOLUME}", "min_cuda: '13.0'")

    assert f"network volume {VOLUME} of 100 GB: $7.00 a month, with or without a pod" in out
    assert "over SSH" not in out, out
    assert "copying the result into the mounted bucket" in out
    assert summary["s3_url"] == f"s3://{VOLUME}/models/tester/a/1/model/"
    bucket = base / "outside/store/data" / VOLUME
    result = bucket / "models/tester/a/1"
    manifest = (result / "_manifest.json").read_bytes()
    assert json.loads((result / "_SUCCESS").read_bytes())["manifest_sha256"] == hashlib.sha256(manifest).hexdigest()
    for entry in json.loads(manifest)["files"]:
        assert hashlib.sha256((result / entry["path"]).read_bytes()).hexdigest() == entry["sha256"]
    assert (bucket / "logs/tester/a/1/train.log").exists() and not list((bucket / "tmp").glob("*"))
    [pod] = [json.loads(path.read_text()) for path in (base / "cloud/gone").glob("*.json")]
    assert pod["request"]["gpu"]["minCudaVersion"] == "13.0", "no pod with a driver that is too old"
    assert pod["request"]["gpu"]["id"] == "NVIDIA GeForce RTX 4090" and pod["request"]["image"] == "image-of-template/30zmvf89kd"
    assert pod["place"] == "EU-RO-1" and pod["request"]["mounts"]["network"][0]["volumeId"] == VOLUME


def test_another_volume_than_the_bucket_is_found_out_and_the_result_comes_home_and_is_pushed(runpod: Yard) -> None:
    out, summary, base = rehearse(runpod, "volume: otherv0lume")

    assert f"is not s3://{VOLUME}" in out and "the result goes over SSH" in out
    assert Path(summary["local_path"], "model/model.txt").exists()
    assert (summary["road"], summary["s3_url"]) == ("ssh, then bucket", f"s3://{VOLUME}/models/tester/a/1/model/")
    assert len(list((base / "outside/store/data" / VOLUME).rglob("_SUCCESS"))) == 1
