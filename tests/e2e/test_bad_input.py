"""Bad input: one clear message with its place, the documented exit code, and nothing created."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.e2e.yard import COUNT, Done, Yard
from tests.here import Here


def told(yard: Yard, here: Here, *words: str) -> Done:
    """Run a verb of a yard in this process."""
    return Done(*here.run(yard.root, *words, env=yard.env))


def nothing_created(yard: Yard) -> bool:
    return not (yard.home / "runs").exists() or not list((yard.home / "runs").glob("*/*"))


CASES = {
    "an unknown stack lists the known ones": (["train", "--stack", "locl"], 2, "there is no stack 'locl'", "Stacks here:"),
    "an unknown recipe names the nearest": (["train", "--recipe", "lorra"], 2, "lorra", "lora"),
    "an unknown variable names the nearest": (["train", "--set", "lora_rnak=8"], 2, "lora_rnak", "lora_rank"),
    "a wrong type names the variable": (["train", "--set", "lora_rank=eight"], 2, "lora_rank", "eight"),
    "a missing data file is named": (["train", "--data", "/nonexistent/x.jsonl"], 2, "/nonexistent/x.jsonl", ""),
    "a missing config file is named": (["train", "--config", "/nonexistent/c.yaml"], 2, "/nonexistent/c.yaml", ""),
    "a label that cannot be a name": (["train", "--recipe", "command", "--set", f"script={COUNT}", "--name", "A B"], 2, "--name 'A B'", ""),
    "hours that are no number": (["train", "--hours", "soon"], 2, "--hours must be a number, not 'soon'", ""),
    "no hours at all": (["train", "--hours", "0"], 2, "--hours must be more than 0, not 0", ""),
    "hours that no lease may have": (["train", "--hours", "745"], 2, "--hours must be at most 744, not 745", ""),
    "endless hours": (["train", "--hours", "inf"], 2, "--hours must be a number, not 'inf'", ""),
    "a budget that is no number": (["train", "--budget", "nan"], 2, "--budget must be a number, not 'nan'", ""),
    "a budget below nothing": (["train", "--budget", "-1"], 2, "--budget must be more than 0, not -1", ""),
    "a download to nowhere": (["download", "a", ""], 2, "DIR is empty", ""),
    "an unknown run": (["attach", "nothing"], 2, "there is no run 'nothing'", ""),
    "an unknown engine": (["up", "--stack", "local"], 2, "engine 'builtn' is not known", "builtin"),
    "a stack without outputs": (["outputs", "--stack", "local"], 2, "no outputs yet", "invoke up"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_error_and_nothing_is_created(shared_yard: Yard, here: Here, name: str) -> None:
    words, code, text, more = CASES[name]
    if name == "an unknown engine":
        shared_yard.extra = {"TRAINYARD_ENGINE": "builtn"}
    done = told(shared_yard, here, *words)
    shared_yard.extra = {}

    assert "Traceback" not in done.err + done.out
    assert text in done.err and more in done.err, done.err
    done.expect(code)
    assert nothing_created(shared_yard)
    assert shared_yard.pods() == []


FILES = {
    "malformed YAML": ("c.yaml", "lora_rank: [1\n", "c.yaml:"),
    "a key twice": ("c.yaml", "lora_rank: 8\nlora_rank: 9\n", "c.yaml:2:1"),
    "an unknown key": ("c.yaml", "lora_rank: 8\nlora_alfa: 9\n", "c.yaml:2:1"),
    "a wrong type in JSON": ("c.json", '{\n "lora_rank": "many"\n}\n', "lora_rank"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_config_file_is_named_with_its_line(shared_yard: Yard, here: Here, tmp_path: Path, name: str) -> None:
    file, text, expected = FILES[name]
    (tmp_path / file).write_text(text)

    done = told(shared_yard, here, "train", "--config", str(tmp_path / file))

    assert expected in done.err, done.err
    assert "Traceback" not in done.err
    done.expect(2)
    assert nothing_created(shared_yard)


SETTINGS: dict[str, tuple[str | bytes, str]] = {
    "a wrong value": (
        "config:\n  trainyard:cloud: local\n  trainyard:spot: maybe\n",
        "Pulumi.local.yaml:3:19: trainyard:spot must be true or false",
    ),
    "a cloud that is none": ("config:\n  trainyard:cloud: lokal\n", "Pulumi.local.yaml:2:20: "),
    "a misspelt top": ("confg:\n  trainyard:cloud: local\n", "Pulumi.local.yaml:1:1: unknown key 'confg'"),
    "another encoding": ("config: {}\n".encode("utf-16"), "Pulumi.local.yaml: is UTF-16"),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("words", [("train",), ("up",), ("preview",)], ids=" ".join)
def test_a_broken_settings_file_is_named_with_its_line_by_every_verb_that_rents(
    shared_yard: Yard, here: Here, name: str, words: tuple[str, ...]
) -> None:
    text, expected = SETTINGS[name]
    path = shared_yard.root / "Pulumi.local.yaml"
    good = path.read_bytes()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        done = told(shared_yard, here, *words, "--stack", "local")
    finally:
        path.write_bytes(good)

    assert done.err.startswith(expected), done.err
    assert "Traceback" not in done.err
    done.expect(2)
    assert nothing_created(shared_yard)


@pytest.mark.parametrize("name", ["TRAINYARD_HOME", "TRAINYARD_LOCAL_ROOT", "XDG_CONFIG_HOME"])
@pytest.mark.parametrize(
    "words", [("train", "--recipe", "command", "--set", f"script={COUNT}"), ("up",), ("destroy", "--yes")], ids=lambda w: w[0]
)
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, here: Here, name: str, words: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "yard").mkdir()
    yard = Yard(tmp_path / "yard", {name: str(tmp_path / "file")})

    done = told(yard, here, *words)

    assert "Traceback" not in done.err + done.out
    assert f"{tmp_path / 'file'}" in done.err, done.err
    done.expect(2)


def test_a_misspelt_setting_does_not_keep_a_pod_from_being_ended(shared_yard: Yard, here: Here) -> None:
    path = shared_yard.root / "Pulumi.local.yaml"
    good = path.read_bytes()
    path.write_text("confg: 1\nconfig:\n  trainyard:cloud: local\n  trainyard:spot: maybe\n")
    try:
        for words in (("reap",), ("audit",), ("destroy", "--yes")):
            told(shared_yard, here, *words, "--stack", "local").expect()
    finally:
        path.write_bytes(good)


ROWS = {
    "a row that fits no form": b'{"instruction": "a", "output": "b"}\n{"foo": 1}\n',
    "a line that is no JSON": b'{"text": "a"}\n{"text": \n',
}


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_data_file_is_named_with_its_line(shared_yard: Yard, here: Here, tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(ROWS[name])

    done = told(shared_yard, here, "train", "--data", str(path))

    assert "data.jsonl:2" in done.err, done.err
    done.expect(2)
    assert nothing_created(shared_yard)


def test_an_occupied_port_of_the_local_store_is_named(yard: Yard) -> None:
    yard.invoke("store.start").expect()
    port = int(yard.invoke("store.status").json()["endpoint"].rpartition(":")[2])
    yard.invoke("store.stop").expect()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", port))
        thief.listen()
        done = yard.invoke("store.start")

    assert str(port) in done.err and "Traceback" not in done.err, done.err
    assert done.code != 0


def test_a_wrong_passphrase_is_a_clear_error(yard: Yard) -> None:
    yard.invoke("up", "--stack", "local").expect()
    yard.extra = {"PULUMI_CONFIG_PASSPHRASE": "wrong"}
    done = yard.invoke("up", "--stack", "local")
    yard.extra = {}

    assert "passphrase" in done.err and "Traceback" not in done.err, done.err
    assert done.code != 0


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_full_disk_is_said_and_leaves_no_pod(yard: Yard) -> None:
    import subprocess

    yard.invoke("up", "--stack", "local").expect()
    runs = yard.home / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", runs], check=True)
    try:
        done = yard.invoke(*yard.train())
    finally:
        subprocess.run(["umount", "-l", runs], check=True)

    assert "No space left on device" in done.err and "Traceback" not in done.err, done.err
    assert done.code != 0
    assert yard.pods() == []
