"""The same promises to an ordinary user: part of these tests is run again as one, where this runs as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
CHOSEN = (
    "leaves_no_survivor or alive+subreaper or itself_and_only or too_much_memory or only_the_given_key or terminal_works or deep_and_locked"
)


def usable_python() -> str:
    """Return a Python of this version that others may run, empty when there is none."""
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"):
        # Through env: setpriv itself still may what root may, what it starts may not.
        command = as_user("env", candidate, "-c", "import sys,json,ctypes; print('%d.%d' % sys.version_info[:2])")
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if done.stdout.strip() == wanted:
            return candidate
    return ""


def as_user(*command: str) -> list[str]:
    """Return the command as it is run by an ordinary user."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", *command]


def test_root_in_a_container_without_the_right_to_namespaces_gets_the_second_isolation(folder: Path) -> None:
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv: the fall from one isolation level to the other is NOT tested here")
    program = (
        "from pathlib import Path\nfrom tests.clouds.local import pods\nfrom trainyard.clouds.local import LocalCloud\n"
        f"cloud = LocalCloud(Path({str(folder / 'c')!r}))\npod = pods.create(cloud, pods.spec())\n"
        "with pods.ssh(pod) as client: print(pod.raw_status, pods.run(client, 'echo hello'))\n"
        "print(cloud.doctor()[0]); cloud.terminate(pod.id); print(pods.leftovers(cloud))"
    )
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable, "-c", program]
    env = {key: value for key, value in os.environ.items() if key != "TRAINYARD_LOCAL_ISOLATION"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)

    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert said[0] == "running (process) (0, 'hello\\n')"
    assert "isolation 'process'" in said[1] and "not permitted" in said[1]
    assert said[2] == "[]"


@pytest.mark.timeout(300)
def test_an_ordinary_user_is_promised_the_same(tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("this whole run is one as an ordinary user")
    if not shutil.which("setpriv"):
        pytest.skip("setpriv is missing: ordinary users are NOT tested here")
    python = usable_python()
    site = next(path for path in sys.path if path.endswith("site-packages"))
    if not python or subprocess.run(as_user("test", "-r", f"{site}/pytest", "-a", "-r", str(ROOT / "tests")), check=False).returncode:
        wanted = f"Python {sys.version_info.major}.{sys.version_info.minor} and this checkout"
        pytest.skip(f"{wanted} cannot both be used by others here: ordinary users are NOT tested")
    home = Path("/var/tmp") / f"tylc-{os.getpid()}"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": f"{ROOT}:{site}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = as_user(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/clouds/local", "-k", CHOSEN)
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert " passed" in done.stdout
        print(done.stdout[-1500:])
        assert [path.name for path in home.iterdir() if not path.name.startswith("pytest-of-")] == []
    finally:
        shutil.rmtree(home)
