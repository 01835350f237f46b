"""What doctor looks at on this machine, whatever the stack: Python, packages, tools, disk, places, local pods and bucket."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainyard import network as ways
from trainyard.clouds.local import LocalCloud
from trainyard.config import Places, env_file_warning, is_repository
from trainyard.doctor.finding import Checker, Finding, Status
from trainyard.recipes import unused
from trainyard.recipes.venvs import envs
from trainyard.setup import pulumicli, s3server
from trainyard.shipped import checkout
from trainyard.sizes import human_size
from trainyard.stacks import installed
from trainyard.storage import local as store
from trainyard.storage.ports import port_is_free, port_owner

LOW_GB = 5
"""Below this a warning: a recipe's environment takes up to 5.4 GB where hard links cannot serve."""
FULL_GB = 0.5
_SOCKET_PATH = 60
"""Longest safe path of the local cloud's root: unix sockets below it have 108 bytes in all."""
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$", re.M)
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")


def repository(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Whether this is a repository of Trainyard's, or only a folder from which the machine is looked at."""
    if is_repository(places.root):
        yield Finding("repository", "ok", str(places.root))
    else:
        yield Finding("repository", "warn", f"none here ({places.root})", "To make one: trainyard init")


def python(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """The Python that runs this, and whether the repository has another one with Trainyard in it."""
    text = f"{platform.python_version()} ({sys.executable})"
    own = places.root / ".venv"
    if (own / "bin" / "trainyard").exists() and Path(sys.prefix).resolve() != own.resolve():
        yield Finding("python", "warn", f"{text} is not that of {own}", "To use that one: . .venv/bin/activate")
    else:
        yield Finding("python", "ok", text)


def packages(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the packages are those that are asked for: by requirements.txt in a checkout of Trainyard, else by Trainyard itself."""
    source = checkout()
    if source is None:
        yield _declared_packages()
        return
    pins = _PIN.findall((source / "requirements.txt").read_text(encoding="utf-8"))
    wrong = []
    for name, pinned, condition in pins:
        if condition and not _applies(condition):
            continue
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != pinned:
            wrong.append(f"{name} {installed} (pinned: {pinned})")
    if wrong:
        yield Finding("packages", "fail", ", ".join(wrong[:5]) + (" ..." if len(wrong) > 5 else ""), "./bootstrap installs what is pinned")
    else:
        yield Finding("packages", "ok", f"{len(pins)} packages as pinned in requirements.txt")


def _declared_packages() -> Finding:
    from packaging.requirements import Requirement

    needs = [Requirement(text) for text in importlib.metadata.requires("trainyard") or ()]
    needs = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    wrong = []
    for need in needs:
        try:
            version = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(version, prereleases=True):
            wrong.append(f"{need.name} {version} (needed: {need.specifier})")
    if wrong:
        return Finding("packages", "fail", ", ".join(wrong), "Install Trainyard again, e.g. pipx reinstall trainyard")
    return Finding("packages", "ok", f"{len(needs)} packages as Trainyard {importlib.metadata.version('trainyard')} needs them")


def programs(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """git and ssh, which belong to the system."""
    uses = (
        ("git", "--version", "summaries lack the commit without it"),
        ("ssh", "-V", "'invoke ssh' and 'invoke tunnel' need OpenSSH's client"),
    )
    for name, flag, use in uses:
        path = shutil.which(name, path=env.get("PATH"))
        if path is None:
            yield Finding(name, "warn", f"not found: {use}", "Install it with your system's packages.")
            continue
        done = subprocess.run([path, flag], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=20)
        yield Finding(name, "ok", f"{(done.stdout or done.stderr).strip().splitlines()[0]} ({path})")


def pulumi(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """The Pulumi CLI and its command plugin: both optional."""
    binary = installed.any_version(env)
    need = ".".join(map(str, installed.MINIMUM))
    if binary is None:
        why = pulumicli.last_failure(env)
        tried = f" (its installer: {why})" if why else ""
        yield Finding("pulumi", "ok", f"no CLI{tried}; the built-in engine serves every stack", pulumicli.HOW)
        return
    version = ".".join(map(str, installed.version(binary))) or "unknown"
    if installed.find(env) is None:
        text = f"{binary} is version {version}, not {need} or newer with pulumi-language-python beside it: the built-in engine serves"
        yield Finding("pulumi", "warn", text, pulumicli.HOW)
        return
    yield Finding("pulumi", "ok", f"{version} ({binary})")
    if installed.has_command_plugin(env):
        yield Finding("command plugin", "ok", installed.COMMAND_PLUGIN)
    else:
        how = f"pulumi plugin install resource command {installed.COMMAND_PLUGIN}"
        yield Finding("command plugin", "warn", f"{installed.COMMAND_PLUGIN} is not installed, so 'auto' means the built-in engine", how)


def s3_server(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """The program of the local bucket, and its port."""
    state = store.status(places)
    if state.binary is None:
        text = f"VersityGW {s3server.VERSION} is not there: the first stack with a local bucket waits until it is built"
        yield Finding("s3 server", "warn", text, "To get it now, in 1 to 7 minutes: invoke setup")
    else:
        said = s3server.version(Path(state.binary))
        text = f"{said or 'does not start'} ({state.binary})"
        yield Finding("s3 server", "ok" if said == s3server.VERSION else "warn", text, f"Version {s3server.VERSION} is the tested one.")
    if state.port is None:
        yield Finding("s3 port", "ok", "chosen at the first start")
    elif state.running:
        yield Finding("s3 port", "ok", f"127.0.0.1:{state.port}, running (pid {state.pid})")
    elif port_is_free(state.port):
        yield Finding("s3 port", "ok", f"127.0.0.1:{state.port}, not running, port free")
    else:
        owner = port_owner(state.port)
        who = f"process {owner[0]}" if owner else "another program"
        text = f"127.0.0.1:{state.port} is held by {who}"
        yield Finding("s3 port", "fail", text, "End that program: the local bucket keeps one port for good.")


def local_pods(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """The isolation level of the local cloud and what serves SSH there."""
    for name, good, text in LocalCloud(places.cloud).doctor():
        yield Finding(name, "ok" if good else "fail", text)
    if len(os.fsencode(places.cloud)) > _SOCKET_PATH:
        text = f"{places.cloud} is long: sockets of pods may not fit"
        yield Finding("local root", "warn", text, "Move it with TRAINYARD_LOCAL_ROOT.")


def disk(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Room where runs, local pods, the local bucket and caches are written."""
    seen: set[int] = set()
    for what, path in (("runs and state", places.home), ("local pods and bucket", places.outside), ("cache", s3server.cache(env))):
        there = _nearest(path)
        if there.stat().st_dev in seen:
            continue
        seen.add(there.stat().st_dev)
        free = shutil.disk_usage(there).free / 1e9
        status: Status = "fail" if free < FULL_GB else "warn" if free < LOW_GB else "ok"
        text = f"{free:.1f} GB free for {what} ({there})"
        yield Finding("disk", status, text, f"Free some space: {LOW_GB} GB let a recipe be set up and trained.")


def venvs(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """The Python environments of local pods, some 5 GB each, and which of them nobody needs."""
    venvs_here = unused.survey(places)
    spare = [each for each in venvs_here if each.keep is None]
    text = f"{len(venvs_here)} in {envs(places)}, {human_size(sum(each.size for each in venvs_here))}"
    if spare:
        text += f"; {len(spare)} of them ({human_size(sum(each.size for each in spare))}) nobody needs"
    yield Finding("venvs", "warn" if spare else "ok", text, "invoke venvs.clean removes what no lock here and no pod needs.")


def writable(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Whether we may write where state, pods and settings are kept."""
    kept = (places.home, places.outside, places.settings)
    bad = [str(path) for path in kept if not os.access(_nearest(path), os.W_OK | os.X_OK)]
    if bad:
        remedy = "TRAINYARD_HOME, TRAINYARD_LOCAL_ROOT and XDG_CONFIG_HOME move them."
        yield Finding("places", "fail", f"cannot be written: {', '.join(bad)}", remedy)
    else:
        yield Finding("places", "ok", f"state {places.home}, local cloud and bucket {places.outside}, settings {places.settings}")


def secrets_on_disk(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Who can read .env and the passphrase, never what they hold."""
    warning = env_file_warning(places.root)
    there = (places.root / ".env").is_file()
    if warning:
        text, _, remedy = warning.partition("; ")
        yield Finding(".env", "warn", text, remedy)
    else:
        yield Finding(".env", "ok", "readable by you alone" if there else "none (keys are taken from the shell)")
    if "PULUMI_CONFIG_PASSPHRASE" in env:
        yield Finding("passphrase", "ok", "from PULUMI_CONFIG_PASSPHRASE")
        return
    named = env.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    path = Path(named).expanduser() if named else places.settings / "passphrase"
    if not path.exists() and named:
        yield Finding("passphrase", "fail", f"{path} (PULUMI_CONFIG_PASSPHRASE_FILE) is not there", "Correct the variable.")
    elif not path.exists():
        yield Finding("passphrase", "ok", f"none yet; made at the first up in {path}")
    elif not os.access(path, os.R_OK):
        yield Finding("passphrase", "fail", f"{path} cannot be read", f"chmod 600 {path}, as its owner")
    elif path.stat().st_mode & 0o077:
        yield Finding("passphrase", "warn", f"{path} can be read by other users", f"chmod 600 {path}")
    else:
        yield Finding("passphrase", "ok", f"in {path}; keep a copy: without it the secrets of a stack cannot be read again")


def network(places: Places, env: Mapping[str, str]) -> Iterator[Finding]:
    """Proxy and certificate settings that every client honours (by name: a proxy's address may hold a password)."""
    names = [name for name in _PROXIES if env.get(name) or env.get(name.lower())]
    for scheme in ("http", "https"):
        ways.proxy_for(f"{scheme}://anywhere.example", env)
    ways.trust(env)
    yield Finding("network", "ok", f"set: {', '.join(names)}" if names else "none set")


def _applies(condition: str) -> bool:
    from packaging.markers import Marker

    return Marker(condition.strip()).evaluate()


def _nearest(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


CHECKERS: Mapping[str, Checker] = {
    "repository": repository,
    "python": python,
    "packages": packages,
    "programs": programs,
    "pulumi": pulumi,
    "s3 server": s3_server,
    "local pods": local_pods,
    "disk": disk,
    "venvs": venvs,
    "places": writable,
    "secrets": secrets_on_disk,
    "network": network,
}
