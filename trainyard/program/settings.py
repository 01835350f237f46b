"""The stack's settings, typed. A wrong type or an unknown name is an error that says key and file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from trainyard.provider.resources import wrong_setting

NAMESPACE = "trainyard"
ENGINES = ("auto", "cli", "builtin")
STORES = ("local", "runpod", "aws", "r2", "s3")
CONSENTS = ("ask", "always", "never")
HEARTBEAT_MINUTES = 30.0
LIMITS = ("limit_day", "limit_week", "limit_month", "limit_action")
"""Spending limits: runs/ keeps them before anything is rented."""


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What shapes a pod."""

    cloud: str
    gpus: Sequence[str]
    gpu_count: int | None
    image: str | None
    template: str | None
    disk_gb: int | None
    volume: str | None
    ports: Sequence[str] | None
    regions: Sequence[str]
    tier: str | None
    spot: bool
    max_price: float | None
    registry: str | None
    env: Mapping[str, str]
    min_cuda: str | None
    min_vram_gb: float | None
    only_offers: Sequence[str] | None
    avoid_offers: Sequence[str] | None
    hours: float | None
    rescue_minutes: float | None
    budget: float | None
    heartbeat_minutes: float
    boot_accepted_minutes: float | None
    boot_image_minutes: float | None
    image_gb: float | None
    boot_ssh_minutes: float | None


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """What an environment's stack is made of."""

    pod: PodSettings
    pods: int
    bucket: str | None
    store: str | None
    env_id: str | None
    lifecycle: Sequence[Mapping[str, object]]
    ssh_key_file: str | None


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run's own stack is made of; the environment's part arrives as config."""

    pod: PodSettings
    run: str
    fence_id: str
    ssh_public_key: str
    ssh_key_file: str
    host_key_seed: pulumi.Output[str]
    bucket: str | None
    store: str | None


class Settings:
    """Reads the keys of the namespace one by one; done() refuses those that nobody knows."""

    __slots__ = ("_config", "_known", "file")

    def __init__(self, stack: str) -> None:
        self.file = f"Pulumi.{stack}.yaml" if "." not in stack else f"the settings of run stack '{stack}'"
        self._config = pulumi.Config(NAMESPACE)
        self._known: set[str] = set()

    def error(self, key: str, message: str) -> pulumi.RunError:
        """Return the error for one key."""
        return wrong_setting(f"{self.file}: {NAMESPACE}:{key} {message}")

    def text(self, key: str, choices: Sequence[str] = ()) -> str | None:
        """Return a text, None when absent or empty."""
        self._known.add(key)
        value = self._config.get(key)
        if value and choices and value not in choices:
            raise self.error(key, f"must be one of {', '.join(choices)}, not '{value}'")
        return value or None

    def need(self, key: str) -> str:
        """Return a text that must be there."""
        value = self.text(key)
        if value is None:
            raise self.error(key, "is missing")
        return value

    def secret(self, key: str) -> pulumi.Output[str]:
        """Return a secret that must be there."""
        self._known.add(key)
        value = self._config.get_secret(key)
        if value is None:
            raise self.error(key, "is missing")
        return value

    def flag(self, key: str) -> bool:
        """Return true or false; absent is false."""
        value = self.text(key)
        if value not in (None, "true", "false"):
            raise self.error(key, f"must be true or false, not '{value}'")
        return value == "true"

    def number(self, key: str, *, at_least: float | None = None) -> float | None:
        """Return a number, None when absent."""
        value = self.text(key)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            raise self.error(key, f"must be a number, not '{value}'") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise self.error(key, f"must be a finite number, not '{value}'")
        if at_least is not None and number < at_least:
            raise self.error(key, f"must be at least {at_least:g}, not {value}")
        return number

    def whole(self, key: str, *, at_least: int = 0) -> int | None:
        """Return a whole number, None when absent."""
        number = self.number(key, at_least=at_least)
        if number is not None and not number.is_integer():
            raise self.error(key, f"must be a whole number, not {number:g}")
        return None if number is None else int(number)

    def texts(self, key: str) -> list[str] | None:
        """Return a list of texts, None when absent; one text counts as a list of one."""
        value = self.text(key)
        if value is None:
            return None
        if not value.lstrip().startswith("["):
            return [value]
        found = self._json(key, value)
        if not isinstance(found, list) or not all(isinstance(item, (str, int, float)) and not isinstance(item, bool) for item in found):
            raise self.error(key, f"must be a list of texts, not {value}")
        return [str(item) for item in found]

    def mappings(self, key: str) -> list[dict[str, object]]:
        """Return a list of mappings; absent is empty."""
        value = self.text(key)
        found = [] if value is None else self._json(key, value)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.error(key, "must be a list of 'name: value' blocks")
        return found

    def mapping(self, key: str) -> dict[str, str]:
        """Return a map of texts; absent is empty."""
        value = self.text(key)
        found = {} if value is None else self._json(key, value)
        if not isinstance(found, dict) or any(isinstance(item, (dict, list)) or item is None for item in found.values()):
            raise self.error(key, "must be a map of texts")
        return {name: item if isinstance(item, str) else json.dumps(item) for name, item in found.items()}

    def done(self, *others: str) -> None:
        """Raise for a key of the namespace that is not known; ``others`` are read by somebody else."""
        known = self._known | set(others)
        for full in {**get_config_env(), **CONFIG.get()}:
            namespace, _, key = full.partition(":")
            if namespace == NAMESPACE and key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
                raise self.error(key, "is not known" + (f" (did you mean '{near[0]}'?)" if near else ""))

    def _json(self, key: str, value: str) -> object:
        try:
            return json.loads(value)
        except ValueError:
            raise self.error(key, f"must be a list or a map, not '{value}'") from None


def environment_settings(stack: str) -> EnvironmentSettings:
    """Read the settings of an environment. Raises RunError naming key and file."""
    given = Settings(stack)
    pod = _pod(given, default_cloud=stack)
    pods = given.whole("pods") or 0
    if pods and pod.hours is None:
        raise given.error("hours", "is missing: a declared pod needs the hours of its lease")
    result = EnvironmentSettings(
        pod=pod,
        pods=pods,
        bucket=given.text("bucket"),
        store=given.text("store", STORES) or ("local" if pod.cloud == "local" else None),
        env_id=given.text("env_id"),
        lifecycle=given.mappings("lifecycle"),
        ssh_key_file=given.text("ssh_key_file"),
    )
    given.text("engine", ENGINES)
    given.text("upload_consent", CONSENTS)
    given.done("user", "pod_secrets", *LIMITS)
    return result


def run_settings(stack: str) -> RunSettings:
    """Read the settings of a run's own stack. Raises RunError naming key and file."""
    given = Settings(stack)
    pod = _pod(given, default_cloud=stack.partition(".")[0])
    if pod.hours is None:
        raise given.error("hours", "is missing: no pod without a lease")
    result = RunSettings(
        pod=pod,
        run=given.need("run"),
        fence_id=given.need("fence_id"),
        ssh_public_key=given.need("ssh_public_key"),
        ssh_key_file=given.need("ssh_key_file"),
        host_key_seed=given.secret("host_key_seed"),
        bucket=given.text("fence_bucket"),
        store=given.text("fence_store"),
    )
    given.done("attempt", "engine", "user", "fence_endpoint", "fence_region", "upload_consent", "pod_secrets")
    return result


def _pod(given: Settings, default_cloud: str) -> PodSettings:
    heartbeat = given.number("heartbeat_minutes", at_least=0)
    pod = PodSettings(
        cloud=given.text("cloud") or default_cloud,
        gpus=given.texts("gpu") or [],
        gpu_count=given.whole("gpu_count", at_least=1),
        image=given.text("image"),
        template=given.text("template"),
        disk_gb=given.whole("disk_gb", at_least=1),
        volume=given.text("volume"),
        ports=given.texts("ports"),
        regions=given.texts("regions") or [],
        tier=given.text("tier"),
        spot=given.flag("spot"),
        max_price=given.number("max_price", at_least=0),
        registry=given.text("registry"),
        env=given.mapping("pod_env"),
        min_cuda=given.text("min_cuda"),
        min_vram_gb=given.number("min_vram_gb", at_least=0),
        only_offers=given.texts("only_offers"),
        avoid_offers=given.texts("avoid_offers"),
        hours=given.number("hours", at_least=0),
        rescue_minutes=given.number("rescue_minutes", at_least=0),
        budget=given.number("budget", at_least=0),
        heartbeat_minutes=HEARTBEAT_MINUTES if heartbeat is None else heartbeat,
        boot_accepted_minutes=given.number("boot_accepted_minutes", at_least=0),
        boot_image_minutes=given.number("boot_image_minutes", at_least=0),
        image_gb=given.number("image_gb", at_least=0),
        boot_ssh_minutes=given.number("boot_ssh_minutes", at_least=0),
    )
    if pod.min_cuda and not re.fullmatch(r"\d+(\.\d+)?", pod.min_cuda):
        raise given.error("min_cuda", f"must look like 13.0, not '{pod.min_cuda}'")
    if pod.image and pod.template:
        raise given.error("template", "and 'image' are given both: choose one")
    return pod
