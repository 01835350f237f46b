"""The pinned uv comes from any index that pip's settings name, and nothing of a wheel with another hash is used."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.setup.index import Index, serve, uv_wheel
from trainyard.setup import starter
from trainyard.setup.console import FAILED, NO_NETWORK, SetupError
from trainyard.setup.pipsettings import PipSettings

NAME = f"uv-9.9.9-py3-none-manylinux_2_17_{platform.machine()}.manylinux2014_{platform.machine()}.whl"
WHEEL, DIGEST = uv_wheel("9.9.9")
PIN = starter.Pin("9.9.9", frozenset({DIGEST}), "")


@pytest.fixture
def index() -> Iterator[Index]:
    with serve(Index()) as served:
        yield served


@pytest.fixture
def no_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python without pip, on a machine whose archive has none either."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(starter, "_find_pip", lambda python: None)
    return python


def get(python: Path, folder: Path, settings: PipSettings) -> Path:
    return starter.get_uv(PIN, python, folder, settings, {"PATH": "/nowhere"}, lambda line: None)


def says(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("as_json", [True, False])
def test_uv_comes_from_an_index_by_the_standard_library_alone(index: Index, no_pip: Path, tmp_path: Path, as_json: bool) -> None:
    index.add_page("/simple/uv/", {"uv-9.9.9-py3-none-win_amd64.whl": "../../w/no.whl", NAME: f"../../w/{NAME}"}, as_json=as_json)
    index.files[f"/w/{NAME}"] = ("application/zip", WHEEL)

    found = get(no_pip, tmp_path / "new", PipSettings(index=f"{index.url}/simple"))

    assert says(found) == "uv 9.9.9"
    assert index.asked == ["/simple/uv/", f"/w/{NAME}"]


def test_an_index_with_name_and_password_is_served_and_the_password_is_never_shown(index: Index, no_pip: Path, tmp_path: Path) -> None:
    index.login = "me:s3kr3t"
    index.add_page("/simple/uv/", {NAME: f"/simple/{NAME}"})
    index.files[f"/simple/{NAME}"] = ("application/zip", WHEEL)
    address = index.url.replace("://", "://me:s3kr3t@")

    assert says(get(no_pip, tmp_path / "new", PipSettings(index=f"{address}/simple"))) == "uv 9.9.9"

    index.login = "me:changed"
    with pytest.raises(SetupError) as caught:
        get(no_pip, tmp_path / "other", PipSettings(index=f"{address}/simple"))
    assert "s3kr3t" not in str(caught.value)


def test_a_wheel_with_another_hash_is_not_used(index: Index, no_pip: Path, tmp_path: Path) -> None:
    index.add_page("/simple/uv/", {NAME: f"/w/{NAME}"})
    index.files[f"/w/{NAME}"] = ("application/zip", WHEEL + b"\0")

    with pytest.raises(SetupError, match="not among those pinned") as caught:
        get(no_pip, tmp_path / "new", PipSettings(index=f"{index.url}/simple"))

    assert caught.value.exit_code == FAILED
    assert [path.name for path in (tmp_path / "new").iterdir()] == []


def test_a_folder_of_wheels_is_enough(no_pip: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / NAME).write_bytes(WHEEL)

    assert says(get(no_pip, tmp_path / "new", PipSettings(find_links=(str(tmp_path / "wheels"),), no_index=True))) == "uv 9.9.9"


def test_an_index_that_cannot_be_reached_is_named_with_the_way_out(no_pip: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="Connection refused") as caught:
        get(no_pip, tmp_path / "new", PipSettings(index="http://127.0.0.1:9/simple"))

    assert caught.value.exit_code == NO_NETWORK
    assert "HTTPS_PROXY" in str(caught.value)


def test_a_pinned_uv_on_path_is_taken_as_it_is(tmp_path: Path) -> None:
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\necho uv 9.9.9\n")
    program.chmod(0o755)

    found = starter.get_uv(PIN, Path("/no/python"), tmp_path / "new", PipSettings(), {"PATH": str(tmp_path)}, lambda line: None)

    assert found == program


def test_pip_fetches_it_with_the_hashes_of_requirements_txt(tmp_path: Path) -> None:
    """With pip there (here: a stand-in that checks what it is given), pip fetches and its settings hold."""
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *--version*) exit 0;; *download*--require-hashes*) cp "{tmp_path}/{NAME}" "{tmp_path}/new/";; *) exit 9;; esac\n'
    )
    python.chmod(0o755)
    (tmp_path / NAME).write_bytes(WHEEL)
    pin = starter.Pin("9.9.9", frozenset({DIGEST}), f"uv==9.9.9 \\\n    --hash=sha256:{DIGEST}\n")

    found = starter.get_uv(pin, python, tmp_path / "new", PipSettings(), {"PATH": "/usr/bin:/bin"}, lambda line: None)

    assert says(found) == "uv 9.9.9"
    assert (tmp_path / "new" / "uv.txt").read_text() == pin.lines


@pytest.mark.parametrize(
    ("tag", "machine", "system", "glibc", "fit"),
    [
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", "x86_64", "Linux", (2, 36), True),
        ("manylinux_2_28_aarch64", "aarch64", "Linux", (2, 36), True),
        ("manylinux_2_39_x86_64", "x86_64", "Linux", (2, 36), False),
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", "aarch64", "Linux", (2, 36), False),
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", "x86_64", "Linux", None, False),
        ("musllinux_1_1_x86_64", "x86_64", "Linux", None, True),
        ("musllinux_1_1_x86_64", "x86_64", "Linux", (2, 36), False),
        ("macosx_11_0_arm64", "arm64", "Darwin", None, True),
        ("macosx_10_12_x86_64", "arm64", "Darwin", None, False),
        ("win_amd64", "x86_64", "Linux", (2, 36), False),
    ],
)
def test_a_wheel_fits_by_its_platform_tag(tag: str, machine: str, system: str, glibc: tuple[int, int] | None, fit: bool) -> None:
    assert starter.fits(tag, machine, system, glibc) is fit


def test_requirements_txt_pins_uv_and_hatchling_with_hashes_and_without_addresses() -> None:
    text = (Path(__file__).resolve().parents[2] / "requirements.txt").read_text(encoding="utf-8")

    for name in ("uv", "hatchling", "pulumi"):
        assert starter.pinned(text, name).hashes
    assert "://" not in text
    assert "--index" not in text
