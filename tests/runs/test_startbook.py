"""A repository's own train.yml is judged before anything is rented."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.errors import UserError
from trainyard.runs.planning import startbook
from trainyard.shipped import shipped

PLAY = "- name: Mine\n  hosts: all\n  tasks:\n    - name: one\n      "


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_trainyard_brings_along_starts_a_training(tmp_path: Path) -> None:
    startbook.refuse(tmp_path)


def test_a_broken_playbook_of_the_repository_is_refused_at_its_own_line(tmp_path: Path) -> None:
    own = write(tmp_path / "playbooks/train.yml", PLAY + "nothing_like_it: {msg: x}\n")
    with pytest.raises(UserError) as refused:
        startbook.refuse(tmp_path)
    assert str(refused.value.where) == f"{own}:5:7"


def test_a_broken_part_of_the_repositorys_is_found_behind_trainyards_train_yml(tmp_path: Path) -> None:
    own = write(tmp_path / "playbooks/tasks/preflight.yml", "- name: one\n  nothing_like_it: {msg: x}\n")
    with pytest.raises(UserError) as refused:
        startbook.refuse(tmp_path)
    assert str(refused.value.where).startswith(f"{own}:2:")


def test_a_playbook_that_starts_no_job_is_refused_because_its_pod_would_idle_until_the_lease_is_over(tmp_path: Path) -> None:
    own = write(tmp_path / "playbooks/train.yml", PLAY + "debug: {msg: hello}\n")
    with pytest.raises(UserError, match="starts no training") as refused:
        startbook.refuse(tmp_path)
    assert str(refused.value.where) == f"{own}:1:1"


def test_it_is_said_that_a_playbook_of_the_repository_starts_the_training(tmp_path: Path) -> None:
    said: list[str] = []
    startbook.refuse(tmp_path, said.append)
    assert said == []

    same = shipped("playbooks/train.yml").read_text(encoding="utf-8")
    write(tmp_path / "playbooks/train.yml", same)
    startbook.refuse(tmp_path, said.append)
    assert said == [], "a copy of Trainyard's, as in another clone, changes nothing"

    write(tmp_path / "playbooks/train.yml", f"{same}# mine\n")
    startbook.refuse(tmp_path, said.append)
    assert len(said) == 1 and "in the place of Trainyard's" in said[0]
