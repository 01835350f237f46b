"""The key of a stack's secrets is begun before the engine is imported: a guess that costs nothing when it is wrong."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.engine.bench import SALT, Bench, new_bench
from trainyard.engine import early, secrets


@pytest.fixture
def bench() -> Iterator[Bench]:
    result = new_bench()
    yield result
    shutil.rmtree(result.root, ignore_errors=True)


@pytest.mark.parametrize("words", [["up", "--stack", "dev"], ["up", "-s", "organization/px/dev", "-y"], ["up", "--stack=dev"]])
def test_the_key_of_the_named_stack_is_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    begun: list[tuple[str, str]] = []
    monkeypatch.setattr(secrets, "begin", lambda passphrase, salt: begun.append((passphrase, salt)))
    assert early.begin(words, bench.env)
    assert begun == [("x", SALT)]


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["up"], {}),
        (["up", "--stack"], {}),
        (["up", "--stack", "*"], {}),
        (["up", "--stack", "other"], {}),
        (["up", "--stack", "dev"], {"PULUMI_BACKEND_URL": "s3://bucket"}),
        (["up", "--stack", "dev"], {"PULUMI_BACKEND_URL": ""}),
        (["up", "--stack", "dev"], {"PULUMI_CONFIG_PASSPHRASE": None, "PULUMI_CONFIG_PASSPHRASE_FILE": "/gone"}),
    ],
)
def test_what_cannot_be_guessed_is_left_to_the_engine(bench: Bench, words: list[str], change: dict[str, str | None]) -> None:
    env = {key: value for key, value in {**bench.env, **change}.items() if value is not None}
    assert not early.begin(words, env)


def test_a_name_that_two_projects_have_is_not_guessed(bench: Bench) -> None:
    bench.backend.create("other", "dev", SALT)
    assert not early.begin(["up", "--stack", "dev"], bench.env)


def test_nothing_heavy_is_imported_before_the_key_is_begun() -> None:
    script = (
        "import sys; from trainyard.engine import early\n"
        "print([name for name in ('yaml', 'grpc', 'pulumi', 'cryptography', 'argparse') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_key_that_the_starter_knows_is_not_derived_again_and_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_DERIVED", {})
    sealed = secrets.Crypter("x", SALT).encrypt("text")
    env = {"A": "b", **secrets.handed()}

    monkeypatch.setattr(secrets, "_DERIVED", {})
    monkeypatch.setattr(secrets, "_ROUNDS", 0)  # no key can be derived
    secrets.take(env)

    assert env == {"A": "b"} and secrets.Crypter("x", SALT).decrypt(sealed) == "text"


@pytest.mark.parametrize("damage", ["", "nonsense", "AA==:AA==", "::", "AA==:%"])
def test_a_damaged_key_is_derived_as_if_none_had_been_handed_over(monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(secrets, "_DERIVED", {})
    secrets.take({"TRAINYARD_ENGINE_KEYS": damage})
    assert secrets.handed() == {}


def test_a_key_of_another_stack_is_not_taken_for_a_wrong_passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "_DERIVED", {})
    salt = base64.b64encode(base64.b64decode(SALT.split(":")[1])).decode()
    secrets.take({"TRAINYARD_ENGINE_KEYS": f"{salt}:{base64.b64encode(bytes(32)).decode()}"})
    assert secrets.Crypter("x", SALT).encrypt("text")
