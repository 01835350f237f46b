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
from trainyard.runs.planning.consent import ask, own_files, pod_secrets, secret_values
from trainyard.runs.ui import Ui
from trainyard.secret import Secret
from trainyard.settings.flaws import flaw
from trainyard.settings.table import StackSettings

ROOT = Path(__file__).resolve().parents[2]
FILES = ["rows.jsonl: 2 rows of text, 24 bytes"]


def cloud(name: str = "runpod", *, simulated: bool = False) -> Any:
    return SimpleNamespace(name=name, simulated=simulated)


class Person(Ui):
    """A person who is there, or is not, and what was asked."""

    def __init__(self, answer: bool) -> None:
        super().__init__(stream=io.StringIO())
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
    consent: str, answer: bool, yes: bool, files: list[str], asked: int, sent: bool
) -> None:
    person = Person(answer)
    if sent:
        ask(person, "runpod", cloud(), consent, files, yes=yes)
    else:
        with pytest.raises(RefusedError) as caught:
            ask(person, "runpod", cloud(), consent, files, yes=yes)
        assert "nothing was sent" in caught.value.message and "upload_consent" in str(caught.value)
    assert len(person.asked) == asked
    assert all(name in person.asked[0] for name in files[:asked])


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

    assert own_files(None, data.inspect(None, lora), lora, {}) == []
    assert own_files("hf://a/b", data.inspect("hf://a/b", lora), lora, {}) == []
    assert own_files("rows.jsonl", data.inspect(str(tmp_path / "rows.jsonl"), lora), lora, {})[0].startswith("rows.jsonl: 2 rows")
    assert own_files(None, data.inspect(None, command), command, {"script": "/x/job.sh"}) == ["job.sh"]
    own = Code(tmp_path, (CodeFile("rows.jsonl", tmp_path / "rows.jsonl", 26, "0" * 64, False),))
    assert own_files(None, data.inspect(None, command), command, {"command": ["ls"]}, own) == [f"code of {tmp_path}: 1 files, 26 B"]


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
