"""Files of the kinds people really have: committed, fetched byte for byte, and what cannot be carried is named."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

from tests.e2e.yard import Yard

SCRIPT = r"""
set -e
cd "$OUTPUT_DIR"; mkdir -p model other; cd model
: > empty; printf x > 'with space.txt'; printf u > 'ünïcødé-模型.txt'; printf p > 'a+b%20c%2Fd&e=f?g#h.txt'; printf bs > 'a\b.txt'
printf q > "quote'\"\$(x);*.txt"; printf s > ' lead and trail '; printf L > $(printf "n%.0s" $(seq 255))
head -c 100000 /dev/urandom > .a.part; head -c 5000000 /dev/urandom > a; printf bb > b; printf p > .b.part
truncate -s 50M sparse.bin; printf tail | dd of=sparse.bin bs=1 seek=40000000 conv=notrunc 2>/dev/null
mkdir step-10; echo precious > step-10/weights.bin; ln -s step-10 latest; ln -s step-10/weights.bin best.bin
printf o > ../other/f; ln -s ../other linked; mkdir many; for i in $(seq 200); do echo $i > many/f$i; done
find . -type f ! -name sums -exec sha256sum {} + | sort > ../sums
printf n > "new
line.txt"; printf x > "$(printf 'bad\377name')"; ln -s /nowhere dangling; ln -s /etc/passwd outside; mkfifo pipe
mv ../sums sums
"""
NAMED = {
    "model/bad\\xffname": "its name is not UTF-8", "model/dangling": "a link to nothing", "model/outside": "a link to outside the output",
    "model/new\\nline.txt": "its name has a control character", "model/pipe": "not a file",
}  # fmt: skip


def test_a_result_of_odd_files_comes_home_whole(yard: Yard, tmp_path: Path) -> None:
    script = tmp_path / "odd.sh"
    script.write_text(SCRIPT)
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
