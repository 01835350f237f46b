"""While a training runs, what is final goes into the bucket; at its end only the rest is sent."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.e2e.yard import JOBS, Yard


def sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.safetensors")}


def test_shards_are_in_the_bucket_before_the_training_ends(yard: Yard, tmp_path: Path) -> None:
    running = yard.start("train", "--stack", "local", "--recipe", "command", "--set", f"script={JOBS / 'shards.py'}", "--name", "a")
    store = yard.base / "o" / "store" / "data"

    def there(pattern: str) -> list[str]:
        return sorted(path.name for path in store.glob(f"trainyard-*/{pattern}"))

    yard.wait_for(lambda: there("models/tester/a/1/model/*") == ["model-1.safetensors", "model-2.safetensors"])
    assert yard.record("a")["phase"] == "started"
    yard.invoke("ssh", "a", "--", "touch", "$WORKSPACE/go").expect()

    out, _ = running.communicate(timeout=100)

    assert running.returncode == 0 and "warning" not in out, out
    yard.invoke("download", "a", str(tmp_path / "got")).expect()
    [manifest] = store.glob("trainyard-*/models/tester/a/1/_manifest.json")
    entries = {Path(entry["path"]).name: entry["sha256"] for entry in json.loads(manifest.read_text())["files"]}
    assert sums(tmp_path / "got") == {name: entries[name] for name in (f"model-{n}.safetensors" for n in (1, 2, 3))}
