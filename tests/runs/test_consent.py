"""What leaves this machine leaves it by consent, and what the job gets of the user's secrets is named and nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.errors import RefusedError, UserError
from trainyard.recipes import data
from trainyard.recipes.code import Code, CodeFile
from trainyard.recipes.contract import load_recipe
from trainyard.runs.planning.consent import Outgoing, OutgoingFile, ask, keys_in, outgoing, pod_secrets, secret_values
from trainyard.runs.ui import Ui
from trainyard.secret import Secret
from trainyard.settings.flaws import flaw
from trainyard.settings.table import StackSettings

ROOT = Path(__file__).resolve().parents[2]
HF = "hf_" + "a1B2" * 8 + "xy"
FILES = [Outgoing("data", (OutgoingFile("rows.jsonl", 24),))]


def cloud(name: str = "runpod", *, simulated: bool = False) -> Any:
    return SimpleNamespace(name=name, simulated=simulated)


class Person(Ui):
    """A person who is there, or is not, and what was asked."""

    def __init__(self, answer: bool) -> None:
        self.screen = io.StringIO()
        super().__init__(stream=self.screen)
        self.answer, self.asked = answer, list[str]()

    def agreed(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer


@pytest.mark.parametrize(
    ("consent", "answer", "yes", "files", "asked", "sent"),
    [
        ("always", False, False, FILES, 0, True),
        ("ask", True, False, FILES, 1, True),
        ("ask", False, False, FILES, 1, False),
        ("ask", False, True, FILES, 0, True),
        ("ask", False, False, [], 0, True),
        ("never", True, True, FILES, 0, False),
        ("never", True, True, [], 0, False),
    ],
)
def test_files_leave_only_as_the_setting_and_the_person_say(
    consent: str, answer: bool, yes: bool, files: list[Outgoing], asked: int, sent: bool
) -> None:
    person = Person(answer)
    if sent:
        ask(person, "runpod", cloud(), consent, files, yes=yes)
    else:
        with pytest.raises(RefusedError) as caught:
            ask(person, "runpod", cloud(), consent, files, yes=yes)
        assert "nothing was sent" in caught.value.message and "upload_consent" in str(caught.value)
    assert len(person.asked) == asked
    assert all(kind.describe() in person.asked[0] for kind in files[:asked])


def test_the_question_says_when_files_stay_in_the_bucket() -> None:
    person = Person(True)
    ask(person, "train", cloud(), "ask", FILES, yes=False, by_bucket=True)
    ask(person, "train", cloud(), "ask", FILES, yes=False)
    assert [question.partition(" to ")[2] for question in person.asked] == [
        "runpod and the bucket of stack 'train'? [y/N] ", "runpod? [y/N] "
    ]  # fmt: skip


@pytest.mark.parametrize("here", [cloud("local"), cloud(simulated=True)])
def test_never_means_this_machine_only_and_is_no_error_there(here: Any) -> None:
    person = Person(False)
    for consent in ("never", "ask"):
        ask(person, "local", here, consent, FILES, yes=False)
    assert person.asked == []


def test_with_nobody_at_a_terminal_the_answer_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert not Ui(stream=io.StringIO()).agreed("? ")


def test_what_a_recipe_ships_is_not_the_users_own_and_what_is_in_a_bucket_is_not_sent(tmp_path: Path) -> None:
    lora, command = load_recipe(ROOT, "lora"), load_recipe(ROOT, "command")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')

    assert outgoing(None, data.inspect(None, lora), lora, {}) == ()
    assert outgoing("hf://a/b", data.inspect("hf://a/b", lora), lora, {}) == ()
    (rows,) = outgoing("rows.jsonl", data.inspect(str(tmp_path / "rows.jsonl"), lora), lora, {})
    assert rows.describe() == "data (1 file, 28 B)" and list(rows.lines()) == ["leaves     data: rows.jsonl, 28 B"]
    (tmp_path / "job.sh").write_text("ls\n")
    assert [kind.describe() for kind in outgoing(None, data.inspect(None, command), command, {"script": str(tmp_path / "job.sh")})] == [
        "script (1 file, 3 B)"
    ]
    own = Code(tmp_path, (CodeFile("rows.jsonl", tmp_path / "rows.jsonl", 26, "0" * 64, False),))
    assert [kind.what for kind in outgoing(None, data.inspect(None, command), command, {"command": ["ls"]}, own)] == ["code"]


def test_what_leaves_is_listed_by_folder_the_biggest_first_within_80_columns() -> None:
    files = [OutgoingFile(f"images/{number}.png", 9_000_000) for number in range(200)]
    files += [OutgoingFile("rows.jsonl", 93_000_000), OutgoingFile("a" * 90 + ".txt", 5), *(OutgoingFile(f"x{n}", 10) for n in range(9))]
    lines = list(Outgoing("data", tuple(files)).lines())
    assert lines[:3] == [
        "leaves     data: 211 files, 1.9 GB", "              1.8 GB  images/ (200 files)", "             93.0 MB  rows.jsonl"
    ]  # fmt: skip
    assert lines[-1] == "                45 B  5 more files" and len(lines) == 9 and all(len(line) <= 80 for line in lines)


def test_what_looks_like_a_key_in_data_is_told_by_its_place_never_itself_and_asked_about(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"text": "' + HF + '"}\n')
    going = outgoing("rows.jsonl", data.inspect(str(tmp_path / "rows.jsonl"), load_recipe(ROOT, "lora")), load_recipe(ROOT, "lora"), {})
    for yes in (False, True):
        person = Person(True)
        ask(person, "runpod", cloud(), "ask", going, yes=yes)
        assert "warning: rows.jsonl:2 holds a token of Hugging Face" in person.screen.getvalue()
        assert person.asked == ([] if yes else ["Send data (1 file, 64 B), with what looks like keys in it, to runpod? [y/N] "])
        assert HF not in person.screen.getvalue()


def test_what_is_packed_is_not_looked_through_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(b"\x1f\x8b" + HF.encode())
    person = Person(True)
    going = [Outgoing("data", (OutgoingFile("rows.jsonl.gz", 39, tmp_path / "rows.jsonl.gz"), OutgoingFile("gone", 5, tmp_path / "gone")))]
    ask(person, "runpod", cloud(), "always", going, yes=False)
    assert "looked through for keys: 0 B (not packed files" in person.screen.getvalue() and "warning" not in person.screen.getvalue()


def test_a_key_among_the_values_of_a_run_is_told_by_name_never_itself() -> None:
    token = "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH"

    (told,) = keys_in({"command": ["python", "x.py", "--token", token], "lr": 1e-4, "code": "."})
    assert told.startswith("command holds a token of Hugging Face") and token not in told


def test_secrets_for_the_job_are_checked_before_anything_is_rented() -> None:
    assert pod_secrets(StackSettings(), {}) == []
    assert pod_secrets(StackSettings(pod_secrets=("HF_TOKEN", "HF_TOKEN")), {"HF_TOKEN": "hf_x\r\n"}) == ["HF_TOKEN"]
    with pytest.raises(UserError, match="pod_secrets: HF_TOKEN is not set"):
        pod_secrets(StackSettings(pod_secrets=("HF_TOKEN",)), {})
    with pytest.raises(UserError, match="HF_TOKEN: holds what no key has"):
        pod_secrets(StackSettings(pod_secrets=("HF_TOKEN",)), {"HF_TOKEN": "a b"})


@pytest.mark.parametrize("name", ["RUNPOD_API_KEY", "AWS_SECRET_ACCESS_KEY", "R2_ACCESS_KEY_ID", "PULUMI_CONFIG_PASSPHRASE"])
def test_what_opens_an_account_or_a_bucket_is_never_sent_to_a_pod(name: str) -> None:
    wrong = flaw(StackSettings(cloud="runpod", pod_secrets=("HF_TOKEN", name)), "runpod")

    assert wrong is not None and wrong.name == "pod_secrets" and f"names {name}, " in wrong.message


def test_a_reference_is_followed_for_the_job() -> None:
    assert secret_values(["HF_TOKEN"], {"HF_TOKEN": "cmd:printf hf_y"}) == {"HF_TOKEN": Secret("hf_y")}
