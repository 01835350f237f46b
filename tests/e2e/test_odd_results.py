"""Files of the kinds people really have: committed, fetched byte for byte, and what cannot be carried is named."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from tests.e2e.yard import JOBS, Yard

NAMED = {
    "model/bad\\xffname": "its name is not UTF-8", "model/dangling": "a link to nothing", "model/outside": "a link to outside the output",
    "model/new\\nline.txt": "its name has a control character", "model/pipe": "not a file",
}  # fmt: skip


def test_a_result_of_odd_files_comes_home_whole(yard: Yard, tmp_path: Path) -> None:
    script = JOBS / "odd.sh"
    yard.invoke("train", "--recipe", "command", "--set", f"script={script}", "--name", "odd").expect()
    summary = json.loads((yard.home / "runs/tester/odd/1/run-summary.json").read_text())
    assert summary["success"] and dict(summary["not_carried"]) == NAMED and summary["road"] == "bucket"
    got = tmp_path / "got"
    yard.invoke("download", "odd", str(got)).expect()
    listed = dict(line.lstrip("\\").split("  ", 1)[::-1] for line in (got / "sums").read_text().splitlines())
    assert len(listed) == 214 and (got / "a\\b.txt").read_text() == "bs" and (got / ".a.part").stat().st_size == 100000
    assert (got / "latest/weights.bin").read_text() == (got / "best.bin").read_text() == "precious\n"
    assert (got / "linked/f").read_text() == "o" and (got / "sparse.bin").stat().st_blocks * 512 < 50_000_000
    for name, digest in listed.items():
        assert sha256((got / name.replace("\\\\", "\\")).read_bytes()).hexdigest() == digest
