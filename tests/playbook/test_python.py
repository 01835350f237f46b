"""Packages of Python, from a folder of wheels, by the real uv."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

from tests.playbook.conftest import Run, Shown


def wheel(folder: Path, version: str) -> None:
    """Make a wheel of one module."""
    stem = f"tinything-{version}"
    files = {
        "tinything.py": f"version = '{version}'\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: tinything\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    sums = {name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode() for name, text in files.items()}
    record = "".join(f"{name},sha256={sums[name]},{len(text)}\n" for name, text in files.items()) + f"{stem}.dist-info/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as file:
        for name, text in {**files, f"{stem}.dist-info/RECORD": record}.items():
            file.writestr(name, text)


def test_packages_go_into_an_environment_once_are_renewed_and_taken_away(run: Run, tmp_path: Path) -> None:
    for version in ("1.0", "1.1"):
        wheel(tmp_path, version)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "UV_CACHE_DIR": str(tmp_path / "cache")}
    beside = f"virtualenv: {tmp_path}/venv, virtualenv_python: '{sys.executable}', extra_args: '--no-index --find-links \"{tmp_path}\"'"

    def pip(words: str, **options: object) -> Shown:
        return run(f"- hosts: all\n  environment: {environment!r}\n  tasks:\n    - pip: {{{words}, {beside}}}", **options)

    def changes(words: str, **options: object) -> int:
        shown = pip(words, **options)
        assert not shown.report.reason(), shown.text
        return shown.report.tallies["pod"].changed

    module = tmp_path / "venv/lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages/tinything.py"
    assert changes("name: tinything==1.0", check=True) == 1 and not (tmp_path / "venv").exists()
    assert [changes("name: tinything==1.0") for _ in range(2)] == [1, 0] and "1.0" in module.read_text()
    assert changes("name: 'tinything>=1,<2'", check=True) == 0
    assert changes("name: [tinything], state: latest", check=True) == 1 and "1.0" in module.read_text()
    assert [changes("name: [tinything], state: latest") for _ in range(2)] == [1, 0] and "1.1" in module.read_text()
    (tmp_path / "r.txt").write_text("tinything==1.0\n")
    assert [changes(f"requirements: {tmp_path}/r.txt") for _ in range(2)] == [1, 0]
    assert [changes("name: TinyThing, state: absent") for _ in range(2)] == [1, 0] and not module.exists()
    assert "nothing-such" in pip("name: nothing-such").text
    assert "goes into 'extra_args'" in pip("name: --upgrade").report.reason()
