"""Keys in a person's files: the shapes that are known, where they stand, and what of training data is none."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.recipes import data, secretfiles
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.secretfiles import secret_in, secrets_among

ROOT = Path(__file__).resolve().parents[2]
HF = "hf_" + "a1B2" * 8 + "xy"
AWS = "AKIA" + "Z2XW5QLM3NRT4KPD"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def test_each_place_in_a_file_is_told_once_by_its_line_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secretfiles, "_BLOCK", 1500)
    seed = random.Random(7)
    lines = ["".join(seed.choices(LETTERS + "    ", k=seed.randrange(400))) for _ in range(300)]
    planted = {seed.randrange(300): key for key in (HF, AWS, HF, AWS, HF)}
    for number, key in planted.items():
        lines[number] += f" '{key}' and again '{key}'"
    (tmp_path / "rows.txt").write_text("\n".join(lines))
    kinds = {HF: "a token of Hugging Face", AWS: "a key of AWS"}
    places, looked = secrets_among(tmp_path / "rows.txt", 1 << 30)
    assert sorted((place.line, place.kind) for place in places) == sorted((number + 1, kinds[key]) for number, key in planted.items())
    assert looked == (tmp_path / "rows.txt").stat().st_size
    assert secrets_among(tmp_path / "rows.txt", 1000)[1] == 1000


@pytest.mark.parametrize(
    "text",
    [
        lambda seed: base64.b64encode(seed.randbytes(3000)).decode(),
        lambda seed: base64.urlsafe_b64encode(seed.randbytes(3000)).decode(),
        lambda seed: " ".join(seed.randbytes(32).hex() for _ in range(60)),
        lambda seed: " ".join(f"{seed.randrange(10**10)}:{seed.randbytes(16).hex()}" for _ in range(60)),
        lambda seed: " ".join("".join(seed.choices(LETTERS + "_-", k=seed.choice((20, 32, 40, 64)))) for _ in range(80)),
        lambda seed: "the password is: secret, your token = abc, see http://user:name@host/ and 10.1.2.3",
    ],
    ids=["base64", "base64url", "sha256", "ids", "words", "prose"],
)
def test_random_letters_and_talk_of_secrets_in_training_data_are_none(tmp_path: Path, text: Callable[[random.Random], str]) -> None:
    seed = random.Random(20261129)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text(seed), "id": n}) + "\n" for n in range(100)))
    assert secrets_among(tmp_path / "rows.jsonl", 1 << 30)[0] == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("AccountKey=" + "aB3d" * 21 + "aB==;", "a key of Azure Storage"),
        ("url = 'https://hooks.slack.com" + "/services/T012ABCDE/B012ABCDE/a1B2c3D4e5F6g7H8'", "a token of Slack"),
        ("TWILIO=AC" + "1a2b3c4d" * 4, "a key of Twilio"),
        ("bot = '110201543:AA" + "Hdq" * 3 + "1cvCH1vGWJxfSeofSAs0K5'", None),
        ("bot = '1102015431:AA" + "Hdq1cvCH1v" * 3 + "a1b'", "a token of Telegram"),
        ("sq0csp-" + "a1B2" * 10 + "xyz", "a key of Square"),
        ("sha1AC" + "1a2b3c4d" * 4, None),
        ("1111111111:Glacier-InventoryRetrieval-topic-Ex", None),
    ],
)
def test_detect_secrets_knows_more_services_and_not_a_piece_of_something_longer(text: str, kind: str | None) -> None:
    assert secret_in(f"first line\n{text}\n".encode()) == (None if kind is None else (kind, 2))


def test_without_detect_secrets_what_the_house_knows_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainyard.recipes.detectors.patterns", lambda: ())
    assert secret_in(HF.encode()) == ("a token of Hugging Face", 1)
    assert secret_in(b"sq0csp-" + b"a1B2" * 10 + b"xyz") is None


def test_a_file_of_a_data_folder_with_the_name_of_a_secret_stays_and_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "id_rsa", "deep/prod.pem", "deep/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = data.inspect(str(tmp_path), load_recipe(ROOT, "command"))
    assert [file.dest for file in found.files] == ["a.txt", "deep/b.txt"]
    assert found.left_out == ("id_rsa, whose name is that of a secret", "deep/prod.pem, whose name is that of a secret")
    assert [file.dest for file in data.inspect(str(tmp_path / "id_rsa"), load_recipe(ROOT, "command")).files] == ["id_rsa"]
