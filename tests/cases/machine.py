"""A Debian of the tests' own in a folder, entered by chroot, and a server on loopback with what playbooks fetch from the web."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from trainyard.remote.local import CommandTransport

_ENTER = (
    'mount -t proc proc "$0/proc" && exec chroot "$0" /usr/bin/env -i HOME=/root LANG=C.UTF-8 '
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /bin/sh -c "$1"'
)
_WHEEL = "tinytool-1.0-py3-none-any.whl"


def lacking() -> str | None:
    """Return what keeps this machine from making one, None where nothing does."""
    if os.getuid():
        return "a Debian in a folder is made by root"
    if shutil.which("mmdebstrap") is None:
        return "apt-get install mmdebstrap"
    return None if _codename() and _sources() else "the Debian is made from this machine's, which it is not"


def make(folder: Path) -> None:
    """Make a small Debian from the mirror that this machine's comes from."""
    how = (
        "--variant=minbase",
        "--include=ca-certificates,curl",
        "--mode=root",
        '--aptopt=Dir::Etc::Parts "/etc/apt/apt.conf.d"',
        "--quiet",
    )
    # What it mounts while it works is seen by nobody else, and goes with it whatever comes: /dev/shm is this machine's.
    subprocess.run(["unshare", "-m", "mmdebstrap", *how, str(_codename()), str(folder), *_sources()], check=True)
    subprocess.run(["chroot", str(folder), "apt-get", "update", "-qq"], check=True)


def make_of_busybox(folder: Path) -> None:
    """Make a machine that has nothing but busybox, and flock, which Debian's busybox lacks."""
    package = folder.with_name("package")
    package.mkdir()
    subprocess.run(["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", "busybox-static"], cwd=package, check=True)
    for path in ("bin", "usr/bin", "usr/sbin", "sbin", "etc", "root", "proc", "dev", "tmp"):
        (folder / path).mkdir(parents=True)
    (folder / "tmp").chmod(0o1777)
    subprocess.run(["dpkg-deb", "-x", next(package.glob("*.deb")), folder], check=True)
    subprocess.run(["chroot", folder, "/bin/busybox", "--install", "-s"], check=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")
    os.mknod(folder / "dev/null", 0o20666, os.makedev(1, 3))
    (folder / "dev/null").chmod(0o666)
    _copy_with_libraries("/usr/bin/flock", folder)


def enter(folder: Path) -> CommandTransport:
    """Return the way into it."""
    return CommandTransport(["unshare", "-m", "sh", "-c", _ENTER, str(folder)], "debian")


@contextmanager
def mirror(folder: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Serve what playbooks fetch; yield the address, and path -> sha256."""
    _fill(folder)
    sums = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sums
    finally:
        server.shutdown()
        server.server_close()


def _copy_with_libraries(program: str, folder: Path) -> None:
    said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in (program, *(word for word in said.split() if word.startswith("/"))):
        place = folder / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _fill(folder: Path) -> None:
    for name in ("cuda", "data", "wheels"):
        (folder / name).mkdir(parents=True)
    (folder / "cuda" / "keyring.gpg").write_bytes(bytes(range(256)))
    (folder / "health.json").write_text('{"status": "ok"}')
    (folder / "install.sh").write_text('#!/bin/sh\nset -e\nmkdir -p "$2/bin"\necho "#!/bin/sh" > "$2/bin/tool"\nchmod 755 "$2/bin/tool"\n')
    (folder / "ollama").write_text('#!/bin/sh\nmkdir -p "$OLLAMA_MODELS"\ntouch "$OLLAMA_MODELS/$(echo "$2" | tr : -)"\n')
    _archive(folder / "data" / "train.tar.gz", {f"train/{n}.jsonl": f'{{"n": {n}}}\n' for n in range(3)})
    _archive(folder / "data" / "valid.tar.gz", {"valid/0.jsonl": "{}\n"})
    _archive(folder / "node_exporter-1.8.2.tar.gz", {"node_exporter-1.8.2/node_exporter": "#!/bin/sh\necho version 1.8.2\n"})
    with zipfile.ZipFile(folder / "wheels" / _WHEEL, "w") as wheel:
        wheel.writestr("tinytool/__init__.py", "ANSWER = 42\n")
        wheel.writestr("tinytool-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinytool\nVersion: 1.0\n")
        wheel.writestr("tinytool-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tinytool-1.0.dist-info/RECORD", "")
    train = "import sys, tinytool\nprint(open(sys.argv[2]).read().replace('lr: ', 'lr='))\n"
    _repository(folder / "repo.git", {"train.py": train, "requirements.txt": "tinytool==1.0\n"})
    _repository(folder / "dotfiles.git", {"tmux.conf": "set -g mouse on\n", "gitconfig": "[user]\n  name = someone\n"})


def _archive(path: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))


def _repository(path: Path, files: Mapping[str, str]) -> None:
    """Make a bare repository that any web server can serve."""
    work = path.with_suffix(".work")
    work.mkdir()
    for name, text in files.items():
        (work / name).write_text(text)
    own = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    for words in (("init", "-q", "-b", "main"), ("add", "."), (*own, "commit", "-qm", "first"), ("tag", "v1")):
        subprocess.run(["git", *words], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(path)], check=True)
    subprocess.run(["git", "update-server-info"], cwd=path, check=True)
    shutil.rmtree(work)


def _codename() -> str | None:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else None


def _sources() -> list[str]:
    places = (*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list"))
    return [str(path) for path in places if path.exists()]
