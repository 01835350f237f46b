"""The scanner of the other tests here finds what it must find: a planted secret, wherever it is planted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.scanner import ALLOWED, Scanner, Sight, is_allowed
from tests.e2e.yard import Yard

TOKEN = "hf_planted-for-the-scanner"
URL = "https://store/bucket/key?X-Amz-Signature=" + "a1" * 32
PLACES = {
    "a file on a pod": ("o/cloud/pods/p/workspace/output/notes.txt", TOKEN, "HF_TOKEN"),
    "what a create said": ("o/cloud/pods/p/state.json", TOKEN, "HF_TOKEN"),
    "a log": ("w/.trainyard/runs/tester/a/1/train.log", "planted-passphrase", "passphrase"),
    "state": ("w/.trainyard/state/.pulumi/stacks/trainyard/local.json", "planted-store-secret", "store secret key"),
    "an object of the bucket": ("o/store/data/b/logs/x", "planted-store-secret", "store secret key"),
    "a result at home": ("w/out/tester/a/config.json", "PLANTEDLINEOFAKEY", "private SSH key"),
    "a plan on a disk": ("w/.trainyard/runs/tester/a/1/plan.json", URL, "a signed URL"),
}


@pytest.fixture
def planted(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path, {"HF_TOKEN": TOKEN})
    for path, text in {
        "o/store/credentials": "aws_access_key_id = A\naws_secret_access_key = planted-store-secret\n",
        "c/trainyard/passphrase": "planted-passphrase\n",
        "w/.trainyard/ssh/local/id_ed25519": "-----BEGIN OPENSSH PRIVATE KEY-----\nPLANTEDLINEOFAKEY\n-----END OPENSSH PRIVATE KEY-----\n",
        "w/.env": f"HF_TOKEN={TOKEN}\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return yard


def seen(yard: Yard) -> set[Sight]:
    scanner = Scanner()
    scanner.know(yard)
    scanner.look(whole=True)
    return scanner.seen


def test_where_each_secret_belongs_it_is_no_finding(planted: Yard) -> None:
    assert seen(planted) == set()


@pytest.mark.parametrize("where", PLACES)
def test_a_secret_in_a_file_is_found_with_its_place(where: str, planted: Yard) -> None:
    path, text, name = PLACES[where]
    (planted.base / path).parent.mkdir(parents=True, exist_ok=True)
    (planted.base / path).write_text(f"before {text} after")

    assert seen(planted) == {Sight(name, str(planted.base / path))}


def test_a_secret_in_a_command_line_or_in_the_environment_of_a_pod_is_found(planted: Yard) -> None:
    home = str(planted.places.cloud / "pods/p/home")
    argv = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "planted-store-secret"]
    process = subprocess.Popen(argv, env={"HOME": home, "KEY": "planted-passphrase"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout and process.stdin
        process.stdout.readline()

        found = seen(planted)
        process.stdin.close()

    assert found == {Sight("store secret key", "a command line"), Sight("passphrase", "environment of a pod")}


def test_each_place_that_may_hold_a_secret_has_its_reason() -> None:
    assert all(len(why) > 20 for _, _, why in ALLOWED)
    assert not is_allowed("store secret key", "environment of a pod") and not is_allowed("passphrase", "/x/o/store/access.log")
