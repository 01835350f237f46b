"""pip's own settings, read without pip, and the same settings in uv's words.

A company that has set up its index, certificates or proxy has done it for pip: in ``pip.conf`` or ``PIP_*``.
uv reads neither. Standard library only.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainyard.setup.console import WRONG_MACHINE, SetupError

_TRUE = {"1", "yes", "y", "on", "true", "t"}
_SECTIONS = ("global", "download", "install")
# Kept from uv: what would weaken the pins or send the packages somewhere else than into .venv.
_DROPPED = ("UV_NO_VERIFY_HASHES", "UV_SYSTEM_PYTHON", "UV_PROJECT", "UV_WORKING_DIR", "UV_PYTHON", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")


def config_files(env: Mapping[str, str], home: Path, prefix: Path = Path(sys.prefix)) -> list[Path]:
    """Return the files that pip reads, in its order; a later one wins."""
    named = env.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return []
    xdg = [Path(part) for part in (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(os.pathsep) if part]
    files = [*(folder / "pip" / "pip.conf" for folder in reversed(xdg)), Path("/etc/pip.conf")]
    files.append(home / ".pip" / "pip.conf")
    if sys.platform == "darwin":
        files.append(home / "Library" / "Application Support" / "pip" / "pip.conf")
    files.append(Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf")
    files.append(Path(env.get("VIRTUAL_ENV") or prefix) / "pip.conf")
    return [*files, Path(named)] if named else files


def read(env: Mapping[str, str], files: Sequence[Path]) -> dict[str, str]:
    """Return pip's settings from its files, then its variables; raises SetupError for a file that is no pip.conf."""
    values: dict[str, str] = {}
    for section in _SECTIONS:
        for path in files:
            values.update(_section(path, section))
    for name, value in env.items():
        if name.startswith("PIP_") and value and name != "PIP_CONFIG_FILE":
            values[name[4:].lower().replace("_", "-")] = value
    return values


def for_uv(env: Mapping[str, str], files: Sequence[Path] | None = None) -> tuple[dict[str, str], list[str]]:
    """Return ``env`` with pip's settings in uv's words, and what uv takes only as an argument.

    ``files`` are pip's own unless given. What the user has set for uv, or for every program, stays.
    """
    pip = read(env, config_files(env, Path(env.get("HOME") or Path.home())) if files is None else files)
    result = {name: value for name, value in env.items() if name not in _DROPPED and name != "VIRTUAL_ENV"}

    def offer(name: str, value: str | None, *instead: str) -> None:
        if value and not any(env.get(other) for other in (name, *instead)):
            result[name] = value

    def many(key: str) -> list[str]:
        return pip.get(key, "").split()

    offer("UV_DEFAULT_INDEX", pip.get("index-url") or pip.get("i") or pip.get("pypi-url"), "UV_INDEX_URL")
    if many("extra-index-url") and not (env.get("UV_INDEX") or env.get("UV_EXTRA_INDEX_URL")):
        result["UV_EXTRA_INDEX_URL"] = " ".join(many("extra-index-url"))
        # pip looks at all indexes; every file is pinned by hash, so that is as safe as the first index alone.
        offer("UV_INDEX_STRATEGY", "unsafe-best-match")
    # uv stops at a folder that is not there, where pip goes on with a warning.
    offer("UV_FIND_LINKS", ",".join(link for link in many("find-links") if "://" in link or Path(link).exists()))
    offer("SSL_CERT_FILE", pip.get("cert"))
    offer("SSL_CLIENT_CERT", pip.get("client-cert"))
    if not pip.get("cert") and not env.get("SSL_CERT_FILE"):
        offer("UV_SYSTEM_CERTS", "true", "UV_NATIVE_TLS")
    if proxy := pip.get("proxy"):
        url = proxy if "://" in proxy else f"http://{proxy}"
        offer("HTTPS_PROXY", url, "https_proxy", "ALL_PROXY", "all_proxy")
        offer("HTTP_PROXY", url, "http_proxy", "ALL_PROXY", "all_proxy")
    offer("UV_INSECURE_HOST", " ".join(many("trusted-host")))
    offer("UV_HTTP_TIMEOUT", pip.get("timeout") or pip.get("default-timeout"))
    return result, ["--no-index"] if pip.get("no-index", "").lower() in _TRUE else []


def _section(path: Path, section: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (configparser.Error, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise SetupError(f"{path}: not a pip.conf: {first}", exit_code=WRONG_MACHINE) from None
    if not parser.has_section(section):
        return {}
    return {name.replace("_", "-"): value for name, value in parser.items(section) if value}
