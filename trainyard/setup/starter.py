"""Get the pinned uv, which installs everything else: from its wheel, whose sha256 is in requirements.txt.

The wheel comes through pip where there is one. A Debian Python may have none and no ensurepip either: then the
standard library fetches it from the index that pip's settings name, or pip itself comes from Debian's archive
(downloaded, not installed). Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from trainyard.setup.console import NO_NETWORK, NO_SPACE, WRONG_MACHINE, OnLine, SetupError, failure, run
from trainyard.setup.pipsettings import PipSettings

NETWORK_HINT = (
    "Check the connection. Behind a proxy set HTTPS_PROXY; a package index of your own is taken from pip's settings "
    "(PIP_INDEX_URL, pip.conf). Then run ./bootstrap again: it goes on where it stopped."
)
SPACE_HINT = "Free about 1 GB here and in ~/.cache (or point XDG_CACHE_HOME elsewhere), then run ./bootstrap again."
_WHEEL = re.compile(r"uv-(?P<version>[^-]+)-py3-none-(?P<tag>[^/]+)\.whl$")
_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_")
_LEGACY = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


@dataclass(frozen=True, slots=True)
class Pin:
    """The lines of requirements.txt about one package."""

    version: str
    hashes: frozenset[str]
    lines: str


def pinned(requirements: str, name: str) -> Pin:
    """Return the pin of a package; raises SetupError when requirements.txt has none."""
    match = re.search(rf"^{re.escape(name)}==([^\s\\;]+)[^\n]*\n(?:[ \t]+--hash[^\n]*\n?)+", requirements, re.M)
    if match is None:
        raise SetupError(f"requirements.txt: no pinned and hashed line for {name}")
    hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", match[0]))
    return Pin(match[1], hashes, match[0])


def get_uv(pin: Pin, python: Path, folder: Path, settings: PipSettings, env: Mapping[str, str], on_line: OnLine) -> Path:
    """Return the pinned uv's program, unpacked into ``folder``; ``python`` may have pip."""
    found = shutil.which("uv", path=env.get("PATH"))
    if found and answers(Path(found), pin.version):
        return Path(found)
    folder.mkdir(parents=True, exist_ok=True)
    pip = _find_pip(python)
    if pip is None and (settings.index or settings.find_links):
        wheel = _fetch(pin, folder, settings, on_line)
    else:
        wheel = _download(pip or _debian_pip(python, folder, on_line), pin, folder, env, on_line)
    return _unpack(wheel, pin, folder)


def answers(uv: Path, version: str) -> bool:
    """Tell whether this program is uv of that version."""
    return _version(uv) == version


def fits(tag: str, machine: str, system: str, glibc: tuple[int, int] | None) -> bool:
    """Tell whether a wheel with this platform tag runs here; ``glibc`` is None on musl."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())
    for part in tag.split("."):
        if system == "Darwin":
            if part.startswith("macosx_") and part.endswith({"aarch64": "_arm64"}.get(machine, f"_{machine}")):
                return True
        elif part.endswith(f"_{machine}"):
            match = _GLIBC.match(part)
            wanted = (int(match[1]), int(match[2])) if match else _LEGACY.get(part[: -len(machine) - 1])
            if glibc is None and part.startswith("musllinux_"):
                return True
            if glibc is not None and wanted is not None and glibc >= wanted:
                return True
    return False


def links(page: bytes, content_type: str, base: str) -> list[tuple[str, str]]:
    """Return (file name, URL) of each file of an index page, JSON or HTML."""
    if "json" in content_type:
        files = json.loads(page).get("files", [])
        return [(str(item["filename"]), urllib.parse.urljoin(base, str(item["url"]))) for item in files]
    parser = _Anchors()
    parser.feed(page.decode("utf-8", "replace"))
    urls = [urllib.parse.urldefrag(urllib.parse.urljoin(base, href))[0] for href in parser.hrefs]
    return [(urllib.parse.unquote(url.rsplit("/", 1)[-1]), url) for url in urls]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href" and value]


def _version(uv: Path) -> str | None:
    try:
        done = subprocess.run([uv, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return words[1] if len(words) > 1 else None


def _find_pip(python: Path) -> list[str] | None:
    command = [str(python), "-m", "pip"]
    done = subprocess.run([*command, "--version"], capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return command
    wheels = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    return [str(python), str(wheels[-1] / "pip")] if wheels else None


def _debian_pip(python: Path, folder: Path, on_line: OnLine) -> list[str]:
    remedy = (
        "Install your system's venv module (Debian, Ubuntu: apt-get update && apt-get install python3-venv), "
        "or name a package index: PIP_INDEX_URL=... ./bootstrap"
    )
    problem = SetupError("this Python has neither pip nor ensurepip, and no package index is set", hint=remedy, exit_code=WRONG_MACHINE)
    apt, dpkg = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if apt and dpkg:
        on_line("This Python has neither pip nor ensurepip: fetching pip from the system's archive (nothing is installed)")
        done = run([apt, "download", "-q", "python3-pip-whl"], "fetching pip", on_line=on_line, cwd=folder, limit=120)
        packages = sorted(folder.glob("python3-pip-whl_*.deb"))
        told = failure(done, "cannot fetch pip from the system's archive", network=NETWORK_HINT, space=SPACE_HINT)
        if done.rc != 0 and told.exit_code in (NO_NETWORK, NO_SPACE):
            raise told
        if done.rc == 0 and packages and run([dpkg, "-x", packages[-1], folder / "deb"], "unpacking pip", on_line=on_line).rc == 0:
            wheels = sorted((folder / "deb" / "usr" / "share" / "python-wheels").glob("pip-*.whl"))
            if wheels:
                return [str(python), str(wheels[-1] / "pip")]
    raise problem


def _download(pip: list[str], pin: Pin, folder: Path, env: Mapping[str, str], on_line: OnLine) -> Path:
    on_line(f"Fetching uv {pin.version}")
    wanted = folder / "uv.txt"
    wanted.write_text(pin.lines, encoding="utf-8")
    arguments = ["download", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--disable-pip-version-check"]
    # A folder that pip could not fill comes back as an error; one wheel is all that --no-deps can leave.
    done = run(
        [*pip, *arguments, "--retries", "2", "-d", folder, "-r", wanted],
        f"fetching uv {pin.version}",
        on_line=on_line,
        env={**env, "PIP_REQUIRE_VIRTUALENV": "false"},
        limit=600,
    )
    wheels = [path for path in folder.glob("*.whl") if _WHEEL.match(path.name)]
    if done.rc != 0 or not wheels:
        # pip tells a network that is absent as "No matching distribution found", after its warnings.
        raise failure(done, f"cannot fetch uv {pin.version}", network=NETWORK_HINT, space=SPACE_HINT)
    return wheels[0]


def _fetch(pin: Pin, folder: Path, settings: PipSettings, on_line: OnLine) -> Path:
    libc, version = platform.libc_ver()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    glibc = (int(numbers[1]), int(numbers[2])) if libc == "glibc" and numbers else None
    opener = _opener(settings)
    pages = [] if settings.no_index else [f"{url.rstrip('/')}/uv/" for url in (settings.index, *settings.extra) if url]
    on_line(f"Fetching uv {pin.version}")
    problems: list[str] = []
    for page in [*settings.find_links, *pages]:
        try:
            for name, url in _listing(opener, page):
                match = _WHEEL.match(name)
                if match and match["version"] == pin.version and fits(match["tag"], platform.machine(), platform.system(), glibc):
                    target = folder / name
                    with opener.open(url, timeout=60) as answer, target.open("wb") as file:
                        shutil.copyfileobj(answer, file)
                    return target
            problems.append(f"{_public(page)}: no uv {pin.version} for this machine")
        except (OSError, ValueError, urllib.error.URLError) as error:
            problems.append(f"{_public(page)}: {getattr(error, 'reason', error)}")
    text = "\n".join("  " + problem for problem in problems)
    raise SetupError(f"cannot fetch uv {pin.version}\n{text}", hint=NETWORK_HINT, exit_code=NO_NETWORK)


def _listing(opener: urllib.request.OpenerDirector, page: str) -> list[tuple[str, str]]:
    if "://" not in page:
        folder = Path(page)
        return [(path.name, path.resolve().as_uri()) for path in sorted(folder.glob("uv-*.whl"))]
    accept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
    with opener.open(urllib.request.Request(_public(page), headers={"Accept": accept}), timeout=30) as answer:
        return links(answer.read(), answer.headers.get("Content-Type", ""), answer.geturl())


def _opener(settings: PipSettings) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = []
    if settings.proxy:
        url = settings.proxy if "://" in settings.proxy else f"http://{settings.proxy}"
        handlers.append(urllib.request.ProxyHandler({"http": url, "https": url}))
    context = ssl.create_default_context(cafile=settings.cert if settings.cert and os.path.isfile(settings.cert) else None)
    if settings.client_cert:
        context.load_cert_chain(settings.client_cert)
    handlers.append(urllib.request.HTTPSHandler(context=context))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    for url in filter(None, (settings.index, *settings.extra, *settings.find_links)):
        parts = urllib.parse.urlsplit(url)
        if parts.username:
            name, word = urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
            passwords.add_password(None, _public(url), name, word)
    handlers.append(urllib.request.HTTPBasicAuthHandler(passwords))
    return urllib.request.build_opener(*handlers)


def _public(url: str) -> str:
    """Return the URL without name and password."""
    return re.sub(r"(?<=//)[^/@]*@", "", url)


def _unpack(wheel: Path, pin: Pin, folder: Path) -> Path:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest not in pin.hashes:
        wheel.unlink()
        raise SetupError(f"{wheel.name}: its sha256 {digest} is not among those pinned in requirements.txt; nothing of it was used")
    with zipfile.ZipFile(wheel) as archive:
        name = f"uv-{pin.version}.data/scripts/uv"
        target = folder / "uv"
        with archive.open(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    target.chmod(0o755)
    return target
