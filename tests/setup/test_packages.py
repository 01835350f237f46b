"""The pinned uv comes through pip, by pip's own settings, and nothing of a wheel with another hash is used."""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.setup.index import Index, serve, uv_wheel
from trainyard.setup import packages
from trainyard.setup.console import FAILED, NO_NETWORK, WRONG_MACHINE, SetupError

BARE = {"PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null"}


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as served:
        yield served


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with pip, as ensurepip makes it."""
    folder = tmp_path_factory.mktemp("root") / ".venv"
    venv.create(folder, with_pip=True)
    return folder


def checkout(environment: Path, version: str, *, digest: str | None = None) -> tuple[Path, str, bytes]:
    """Return (root, name of the wheel, its content) where requirements.txt pins that version."""
    content, own = uv_wheel(version)
    text = f"urllib3==1.0\nuv=={version} \\\n    --hash=sha256:{digest or own}\nother==2\n"
    (environment.parent / "requirements.txt").write_text(text)
    return environment.parent, f"uv-{version}-py3-none-any.whl", content


def get(root: Path, **env: str) -> Path:
    return packages.get_uv(root, {**BARE, **env}, lambda line: None, 0)


def says(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def test_uv_comes_from_the_index_of_pip_s_settings_and_only_once(index: Index, environment: Path, tmp_path: Path) -> None:
    root, name, content = checkout(environment, "9.9.1")
    index.add_page("/simple/uv/", {"uv-9.9.1-py3-none-win_amd64.whl": "../../w/no.whl", name: f"../../w/{name}"})
    index.files[f"/w/{name}"] = ("application/zip", content)
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index.url}/simple\nuser = true\n")

    found = get(root, PIP_CONFIG_FILE=str(tmp_path / "pip.conf"), PIP_TARGET=str(tmp_path / "elsewhere"))

    assert (found, says(found)) == (environment / "bin" / "uv", "uv 9.9.1")
    assert not (tmp_path / "elsewhere").exists() and not (environment / "uv.txt").exists()
    asked = len(index.asked)
    assert get(root) == found and len(index.asked) == asked


def test_the_password_of_an_index_is_used_and_never_shown(index: Index, environment: Path) -> None:
    index.login = "me:s3kr3t"
    root, name, content = checkout(environment, "9.9.2")
    index.add_page("/simple/uv/", {name: f"/simple/{name}"})
    index.files[f"/simple/{name}"] = ("application/zip", content)
    address = index.url.replace("://", "://me:s3kr3t@") + "/simple"

    assert says(get(root, PIP_INDEX_URL=address)) == "uv 9.9.2"

    index.login = "me:changed"
    root, *_ = checkout(environment, "9.9.3")
    with pytest.raises(SetupError, match=r"cannot fetch uv 9\.9\.3") as caught:
        get(root, PIP_INDEX_URL=address)
    assert "s3kr3t" not in str(caught.value)


def test_a_wheel_with_another_hash_is_not_used(environment: Path, tmp_path: Path) -> None:
    root, name, content = checkout(environment, "9.9.4", digest="0" * 64)
    (tmp_path / name).write_bytes(content)

    with pytest.raises(SetupError, match="HASHES") as caught:
        get(root, PIP_FIND_LINKS=str(tmp_path), PIP_NO_INDEX="1")

    assert caught.value.exit_code == FAILED
    uv = environment / "bin" / "uv"
    assert not uv.exists() or says(uv) != "uv 9.9.4"


def test_a_folder_of_wheels_is_enough(environment: Path, tmp_path: Path) -> None:
    root, name, content = checkout(environment, "9.9.5")
    (tmp_path / name).write_bytes(content)

    assert says(get(root, PIP_FIND_LINKS=str(tmp_path), PIP_NO_INDEX="1")) == "uv 9.9.5"


def test_an_index_that_cannot_be_reached_is_named_with_the_way_out(environment: Path) -> None:
    root, *_ = checkout(environment, "9.9.6")

    with pytest.raises(SetupError, match="Connection refused") as caught:
        get(root, PIP_INDEX_URL="http://127.0.0.1:9/simple")

    assert caught.value.exit_code == NO_NETWORK
    assert "HTTPS_PROXY" in str(caught.value)


def test_a_pinned_uv_on_path_is_taken_as_it_is(environment: Path, tmp_path: Path) -> None:
    root, *_ = checkout(environment, "9.9.7")
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho uv 9.9.7\n")
    program.chmod(0o755)

    assert get(root, PATH=str(tmp_path)) == program


def test_a_python_without_ensurepip_is_told_with_the_way_out(tmp_path: Path) -> None:
    """Debian and Ubuntu keep it in python3-venv."""
    root, *_ = checkout(tmp_path / ".venv", "9.9.8")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0: No module named $3" >&2\nexit 1\n')
    python.chmod(0o755)

    with pytest.raises(SetupError, match="has no 'ensurepip'") as caught:
        get(root)

    assert caught.value.exit_code == WRONG_MACHINE
    assert "apt-get install python3-venv" in str(caught.value.hint)


def test_requirements_txt_pins_uv_and_hatchling_with_hashes_and_without_addresses() -> None:
    text = (Path(__file__).resolve().parents[2] / "requirements.txt").read_text(encoding="utf-8")

    for name in ("uv", "hatchling", "pulumi"):
        assert "--hash=sha256:" in packages._pinned(text, name)
    assert "://" not in text
    assert "--index" not in text
