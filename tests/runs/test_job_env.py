"""What a training is told by its environment."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from trainyard.runs.life.start import job_env


def pod(**cloud: bool | str) -> Any:
    told = {"name": "runpod", "simulated": False, **cloud}
    return SimpleNamespace(workspace="/workspace", path=lambda *parts: "/".join(("/workspace", *parts)), cloud=SimpleNamespace(**told))


def test_caches_lie_on_the_pods_network_volume_where_it_has_one() -> None:
    context: Any = SimpleNamespace(env={}, places=None)

    alone, with_volume = job_env(context, pod(), None, local=False), job_env(context, pod(), "/runpod-volume", local=False)

    assert alone["HF_HOME"] == "/workspace/.cache" and "UV_CACHE_DIR" not in alone
    assert with_volume["HF_HOME"] == "/runpod-volume/huggingface" and with_volume["UV_CACHE_DIR"] == "/runpod-volume/uv"
    assert with_volume["OUTPUT_DIR"] == "/workspace/output", "the result itself is written to the pod's own disk"


def test_behind_a_proxy_a_real_gpu_is_used_and_only_a_rehearsal_trains_on_the_cpu(tmp_path: Path) -> None:
    context: Any = SimpleNamespace(env={}, places=SimpleNamespace(cloud=tmp_path))

    assert "TRAINYARD_LOCK" not in job_env(context, pod(address="https://proxy.example/v2"), None, local=False)
    assert job_env(context, pod(simulated=True), None, local=False)["TRAINYARD_LOCK"] == "cpu"


def test_a_pod_of_this_machine_installs_packages_from_where_this_machine_does(tmp_path: Path) -> None:
    told = {"PIP_INDEX_URL": "https://index.example/simple", "HTTPS_PROXY": "http://proxy.example:3128", "HF_TOKEN": "x"}
    context: Any = SimpleNamespace(env={**told, "PIP_CONFIG_FILE": "/dev/null"}, places=SimpleNamespace(cloud=tmp_path))

    found = job_env(context, pod(), None, local=True, packages=True)

    assert found["UV_DEFAULT_INDEX"] == told["PIP_INDEX_URL"] and found["HTTPS_PROXY"] == told["HTTPS_PROXY"]
    assert Path(found["TRAINYARD_UV"]).name == "uv" and "HF_TOKEN" not in found
    assert "UV_DEFAULT_INDEX" not in job_env(context, pod(), None, local=False, packages=True), "what is rented is told nothing of ours"
