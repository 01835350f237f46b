"""A run does not depend on how its surroundings are: the checkout's path, proxies, profiles of other tools."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.yard import Yard

ODD = "a b+ä#c%20d'e&f"
PROXY = "http://127.0.0.1:9"  # nobody listens there
OTHERS = {
    "http_proxy": PROXY, "https_proxy": PROXY, "grpc_proxy": PROXY, "HTTP_PROXY": PROXY, "ALL_PROXY": "socks5://127.0.0.1:9",
    "AWS_PROFILE": "work-sso", "AWS_CONFIG_FILE": "/nowhere", "AWS_ENDPOINT_URL": PROXY, "AWS_CA_BUNDLE": "/nowhere",
    "no_proxy": "", "NO_PROXY": "",
}  # fmt: skip


@pytest.fixture
def odd() -> Iterator[Yard]:
    base = Path(tempfile.mkdtemp(prefix="ty", dir="/tmp"))
    (base / ODD).mkdir()
    made = Yard(base / ODD)
    yield made
    made.close()
    shutil.rmtree(base, ignore_errors=True)


def test_a_checkout_in_any_path_behind_any_proxy_trains_on_this_machine(odd: Yard) -> None:
    odd.extra = OTHERS

    done = odd.invoke(*odd.train("--name", "a", "--json", steps=2)).expect()

    summary = done.json()
    assert summary["success"] and summary["s3_url"]
    odd.invoke("download", "tester/a", str(odd.base / "got")).expect()
    assert list((odd.base / "got").rglob("*"))
    assert {path.name for path in odd.base.iterdir()} == {"w", "c", "o", "got"}
    odd.invoke("destroy", "--stack", "local", "--yes").expect()


def test_the_job_gets_the_secrets_that_the_settings_name_and_nothing_that_is_kept_holds_them(yard: Yard) -> None:
    (yard.root / "Pulumi.local.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:pod_secrets: [HF_TOKEN]\n")
    (yard.root / ".env").write_text("HF_TOKEN=hf_very-secret-token\nWANDB_API_KEY=other-very-secret\n")
    script = yard.base / "job.sh"
    script.write_text('mkdir -p "$OUTPUT_DIR/model"; printf "%s|%s" "$HF_TOKEN" "$WANDB_API_KEY" | sha256sum > "$OUTPUT_DIR/model/w"\n')

    done = yard.invoke("train", "--recipe", "command", "--set", f"script={script}", "--name", "s", "--json").expect()

    assert "the job gets HF_TOKEN of yours" in done.err
    assert done.json()["pod_secrets"] == ["HF_TOKEN"]
    yard.invoke("download", "tester/s", str(yard.base / "got")).expect()
    said = (yard.base / "got" / "w").read_text().split()[0]
    assert said == hashlib.sha256(b"hf_very-secret-token|").hexdigest()
    kept = [path for folder in (yard.root, yard.base / "o") for path in folder.rglob("*") if path.is_file() and path.name != ".env"]
    assert [path for path in kept if b"very-secret" in path.read_bytes()] == []


def test_first_commands_in_parallel_wait_for_each_other(yard: Yard) -> None:
    started = [yard.start(*yard.train("--name", f"p{number}", steps=2)) for number in range(3)]
    said = [process.communicate(timeout=200)[0] for process in started]

    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sum(text.count("up         environment local") for text in said) == 1


def test_without_a_cloud_in_its_settings_a_stack_is_on_the_cloud_of_its_name_for_every_verb(yard: Yard) -> None:
    (yard.root / "Pulumi.local.yaml").write_text("")

    assert "local: cloud local" in yard.invoke("doctor", "--stack", "local").out
    for verb in ("up", "reap", "audit"):
        yard.invoke(verb, "--stack", "local").expect()
    summary = yard.invoke(*yard.train("--name", "n", "--json", steps=1)).expect().json()
    assert summary["s3_url"]
    yard.invoke("download", "tester/n", str(yard.base / "got")).expect()
