"""pip's own settings, read without pip, and the same settings in uv's words.

A company that has set up its index, certificates or proxy has done it for pip: in ``pip.conf`` or ``PIP_*``.
uv reads neither. Standard library only.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.setup.console import WRONG_MACHINE, SetupError

_TRUE = {"1", "yes", "y", "on", "true", "t"}
_SECTIONS = ("global", "download", "install")
# Kept from uv: what would weaken the pins or send the packages somewhere else than into .venv.
_DROPPED = ("UV_NO_VERIFY_HASHES", "UV_SYSTEM_PYTHON", "UV_PROJECT", "UV_WORKING_DIR", "UV_PYTHON", "UV_OVERRIDE", "UV_BUILD_CONSTRAINT")


@dataclass(frozen=True, slots=True)
class PipSettings:
    """What pip would use to reach packages; None and () where nothing is set."""

    index: str | None = None
    extra: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: str | None = None


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


def read(env: Mapping[str, str], files: list[Path]) -> PipSettings:
    """Return pip's settings from its files, then its variables; raises SetupError for a file that is no pip.conf."""
    values: dict[str, str] = {}
    for section in _SECTIONS:
        for path in files:
            values.update(_section(path, section))
    for name, value in env.items():
        if name.startswith("PIP_") and value and name != "PIP_CONFIG_FILE":
            values[name[4:].lower().replace("_", "-")] = value

    def many(key: str) -> tuple[str, ...]:
        return tuple(values.get(key, "").split())

    return PipSettings(
        index=values.get("index-url") or values.get("i") or values.get("pypi-url"),
        extra=many("extra-index-url"),
        find_links=many("find-links"),
        no_index=values.get("no-index", "").lower() in _TRUE,
        cert=values.get("cert"),
        client_cert=values.get("client-cert"),
        proxy=values.get("proxy"),
        trusted_hosts=many("trusted-host"),
        timeout=values.get("timeout") or values.get("default-timeout"),
    )


def uv_environment(settings: PipSettings, env: Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` with pip's settings in uv's words. What the user has set for uv, or for every program, stays."""
    result = {name: value for name, value in env.items() if name not in _DROPPED and name != "VIRTUAL_ENV"}

    def offer(name: str, value: str | None, *instead: str) -> None:
        if value and not any(env.get(other) for other in (name, *instead)):
            result[name] = value

    offer("UV_DEFAULT_INDEX", settings.index, "UV_INDEX_URL")
    if settings.extra and not (env.get("UV_INDEX") or env.get("UV_EXTRA_INDEX_URL")):
        result["UV_EXTRA_INDEX_URL"] = " ".join(settings.extra)
        # pip looks at all indexes; every file is pinned by hash, so that is as safe as the first index alone.
        offer("UV_INDEX_STRATEGY", "unsafe-best-match")
    # uv stops at a folder that is not there, where pip goes on with a warning.
    offer("UV_FIND_LINKS", ",".join(link for link in settings.find_links if "://" in link or Path(link).exists()))
    offer("SSL_CERT_FILE", settings.cert)
    offer("SSL_CLIENT_CERT", settings.client_cert)
    if not settings.cert and not env.get("SSL_CERT_FILE"):
        offer("UV_SYSTEM_CERTS", "true", "UV_NATIVE_TLS")
    if settings.proxy:
        url = settings.proxy if "://" in settings.proxy else f"http://{settings.proxy}"
        offer("HTTPS_PROXY", url, "https_proxy", "ALL_PROXY", "all_proxy")
        offer("HTTP_PROXY", url, "http_proxy", "ALL_PROXY", "all_proxy")
    offer("UV_INSECURE_HOST", " ".join(settings.trusted_hosts))
    offer("UV_HTTP_TIMEOUT", settings.timeout)
    return result


def uv_arguments(settings: PipSettings) -> list[str]:
    """Return what uv takes only as an argument."""
    return ["--no-index"] if settings.no_index else []


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
