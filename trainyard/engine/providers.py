"""The providers of an operation: which process serves which provider resource, and provider resources as resources.

A provider resource is checked with CheckConfig, compared with DiffConfig and created by Configure; its id is
made here. One plugin process serves one provider resource, as in the CLI.
"""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainyard.engine import urn as urns
from trainyard.engine.codec import plain
from trainyard.engine.hook import EngineError, RefusedError
from trainyard.engine.kinds import UNKNOWN_TEXT, Properties
from trainyard.engine.provider import Checked, DiffAnswer, Provider, ResourceOutcome
from trainyard.engine.spawn import PluginSource, Process, attached_port, find_plugin, start
from trainyard.engine.state import Resource
from trainyard.engine.values import Wire, equal

if TYPE_CHECKING:
    from trainyard.engine.operation import Operation

INTERNAL = "__internal"
COMMAND = "command"
_VERSION_IN_NAME = re.compile(r"default_(\d+_\d+_\d+)")


class Plugins:
    """Plugin processes: some started ahead, the others when they are asked for."""

    def __init__(self, source: PluginSource, wire: Wire, engine_address: str, say: Callable[[str, str], None]) -> None:
        self._source = source
        self._wire = wire
        self._engine_address = engine_address
        self._say = say
        self._lock = threading.Lock()
        self._ahead: dict[tuple[str, str], list[Process]] = {}
        self._open: list[Provider] = []
        self._closed = False
        self._stop = threading.Event()

    def prestart(self, package: str, version: str) -> None:
        """Start a plugin that will surely be wanted; one that cannot be found is reported when it is."""
        if package == COMMAND and find_plugin(self._source, package, version) is None:
            return
        if attached_port(self._source, package) is None:
            try:
                process = start(self._source, package, version, self._engine_address, self._say)
            except EngineError:
                return
            self._ahead.setdefault((package, version), []).append(process)

    def open(self, package: str, version: str) -> Provider:
        """Return a provider of the package, greeted but not configured."""
        if package == "pulumi-python":
            raise RefusedError("dynamic providers are not supported by the built-in engine; use a provider plugin, or the Pulumi CLI")
        provider = self._served_here(package, version) or self._plugin(package, version)
        with self._lock:
            self._open.append(provider)
        return provider

    def cancel(self) -> None:
        """Ask all plugins to end soon."""
        self._stop.set()
        with self._lock:
            for provider in self._open:
                threading.Thread(target=provider.cancel, daemon=True).start()

    def close(self) -> None:
        """Stop all plugins, side by side."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            stops = [provider.close for provider in self._open] + [p.stop for items in self._ahead.values() for p in items]
        threads = [threading.Thread(target=stop) for stop in stops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def lacks_command(self, version: str = "") -> bool:
        """Say whether the official command plugin is absent: ``command.py`` then serves what it can."""
        return attached_port(self._source, COMMAND) is None and find_plugin(self._source, COMMAND, version) is None

    def _served_here(self, package: str, version: str) -> Provider | None:
        if package != COMMAND or not self.lacks_command(version):
            return None
        from trainyard.engine.command import CommandProvider  # only where the official plugin is absent

        return CommandProvider(self._say, self._source)

    def _plugin(self, package: str, version: str) -> Provider:
        from trainyard.engine.plugin import Plugin  # grpc: imported while the plugins come up

        port = attached_port(self._source, package)
        process = None if port else self._process(package, version)
        try:
            address = f"127.0.0.1:{port}" if port else process.address() if process else ""
            return Plugin(package, address, process, self._wire, self._engine_address, self._say, self._stop)
        except EngineError:
            if process is not None:
                process.stop()
            raise

    def _process(self, package: str, version: str) -> Process:
        with self._lock:
            ahead = self._ahead.get((package, version)) or []
            if ahead:
                return ahead.pop()
        return start(self._source, package, version, self._engine_address, self._say)


class Providers:
    """Configured providers by reference, and (as a Provider itself) the provider of provider resources."""

    adopts_pending = False

    def __init__(self, operation: Operation, plugins: Plugins) -> None:
        self._operation = operation
        self._plugins = plugins
        self._lock = threading.RLock()
        self._configured: dict[str, Provider] = {}
        self._checked: dict[str, Provider] = {}

    def of(self, resource: Resource) -> Provider | None:
        """Return the provider that serves a resource, None for a component."""
        if not resource.custom:
            return None
        if resource.is_provider:
            return self
        return self.get(resource.provider, resource.urn)

    def get(self, reference: str, urn: str = "") -> Provider:
        """Return the provider of a reference; one known only from old state is loaded from there."""
        with self._lock:
            provider = self._configured.get(reference)
            if provider is None:
                provider = self._from_state(reference, urn)
            return provider

    def same(self, resource: Resource, inputs: Properties) -> None:
        """Put an unchanged provider resource to use, with its old inputs."""
        reference = urns.reference(resource.urn, resource.id)
        with self._lock:
            if reference in self._configured:
                return
            provider = self._checked.pop(resource.urn, None) or self._open(resource.urn, inputs)
            provider.configure(resource.urn, resource.id, settings_of(inputs))
            self._configured[reference] = provider

    def rename(self, old: str, new: str) -> None:
        """Serve a provider resource that has another URN now under its old references too."""
        with self._lock:
            for reference, provider in list(self._configured.items()):
                urn, identity = urns.split_reference(reference)
                if urn == old:
                    self._configured[urns.reference(new, identity)] = provider

    def check(self, urn: str, olds: Properties | None, news: Properties, seed: bytes) -> Checked:
        """Check a provider resource's inputs with its plugin."""
        provider = self._open(urn, news)
        answer = provider.check_config(urn, settings_of(olds or {}), settings_of(news))
        if answer.failures:
            provider.close()
            return answer
        with self._lock:
            self._checked[urn] = provider
        inputs = dict(answer.inputs)
        if "version" in news and not equal(plain(inputs.setdefault("version", news["version"])), plain(news["version"])):
            raise EngineError(f"the provider {urn} tried to change its version from {news['version']} to {inputs['version']}")
        if INTERNAL in news:
            inputs[INTERNAL] = news[INTERNAL]
        return Checked(inputs)

    def diff(
        self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]
    ) -> DiffAnswer:
        """Compare a provider resource's inputs with its plugin."""
        with self._lock:
            provider = self._checked.get(urn) or self.get(urns.reference(urn, identity))
        answer = provider.diff_config(urn, settings_of(old_inputs), old_outputs, settings_of(news), ignore)
        if answer.changes is None:
            return DiffAnswer(not equal(old_outputs, settings_of(news)), answer.replace_keys, answer.changed_keys, answer.detailed)
        return answer

    def create(self, urn: str, inputs: Properties, timeout: float, preview: bool) -> ResourceOutcome:
        """Configure a new provider."""
        with self._lock:
            provider = self._checked.pop(urn, None) or self._open(urn, inputs)
            identity = UNKNOWN_TEXT if preview else str(uuid.uuid4())
            provider.configure(urn, identity, settings_of(inputs))
            self._configured[urns.reference(urn, identity)] = provider
        return ResourceOutcome(identity, settings_of(inputs))

    def update(self, urn: str, identity: str, old_inputs: Properties, old_outputs: Properties, inputs: Properties, timeout: float,
               ignore: list[str], preview: bool) -> ResourceOutcome:  # fmt: skip
        """Configure a provider anew under the id it has."""
        with self._lock:
            provider = self._checked.pop(urn, None) or self._open(urn, inputs)
            provider.configure(urn, identity, settings_of(inputs))
            self._configured[urns.reference(urn, identity)] = provider
        return ResourceOutcome(identity, settings_of(inputs))

    def read(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> ResourceOutcome:
        """A provider resource is what the state says."""
        return ResourceOutcome(identity, outputs, inputs)

    def delete(self, urn: str, identity: str, inputs: Properties, outputs: Properties, timeout: float) -> None:
        """Deleting a provider resource only forgets it; its plugin may still serve others."""

    def check_config(self, urn: str, olds: Properties, news: Properties) -> Checked:
        """A provider resource has no provider with settings of its own."""
        raise NotImplementedError

    def diff_config(self, urn: str, old_inputs: Properties, old_outputs: Properties, news: Properties, ignore: list[str]) -> DiffAnswer:
        """See check_config()."""
        raise NotImplementedError

    def configure(self, urn: str, identity: str, inputs: Properties) -> None:
        """See check_config()."""
        raise NotImplementedError

    def invoke(self, token: str, arguments: Properties, preview: bool) -> tuple[Properties, list[tuple[str, str]]]:
        """See check_config()."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Plugins are cancelled by Plugins."""

    def close(self) -> None:
        """Plugins are closed by Plugins."""

    def _open(self, urn: str, inputs: Properties) -> Provider:
        return self._plugins.open(urns.package_of(urns.type_of(urn)), version_of(inputs))

    def _from_state(self, reference: str, urn: str) -> Provider:
        where, identity = urns.split_reference(reference)
        for old in self._operation.state.olds:
            if old.urn == where and old.id == identity:
                provider = self._open(where, old.inputs)
                provider.configure(where, identity, settings_of(old.inputs))
                self._configured[reference] = provider
                return provider
        return self._from_settings(reference, where, identity, urn)

    def _from_settings(self, reference: str, where: str, identity: str, urn: str) -> Provider:
        """Serve a default provider that is no more in state (the CLI's destroy removes it before a pending create)."""
        if not urns.name_of(where).startswith("default"):
            raise EngineError(f"{urn or 'a resource'} needs the provider {where}, which is not in state")
        package = urns.package_of(urns.type_of(where))
        version = default_version(urns.name_of(where))
        inputs = default_inputs(self._operation.settings.of_package(package), version)
        checked = self.check(where, None, inputs, b"")
        if checked.failures:
            raise EngineError(f"the settings of package '{package}' are wrong: {checked.failures[0][1]}")
        with self._lock:
            provider = self._checked.pop(where)
            provider.configure(where, identity, settings_of(checked.inputs))
            self._configured[reference] = provider
        return provider


def default_inputs(settings: Properties, version: str, url: str = "") -> Properties:
    """Return the inputs of a package's default provider."""
    inputs = dict(settings)
    if version or url:
        inputs[INTERNAL] = {"pluginDownloadURL": url} if url else {}
    return {**inputs, "version": version} if version else inputs


def default_name(version: str, url: str = "") -> str:
    """Return the name of a package's default provider."""
    name = f"default_{version}" if version else "default"
    name = name.replace(".", "_").replace("+", "_").replace("-", "_")
    parts = [re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in url.split("/") if part]
    return f"{name}_{'/'.join(parts)}" if parts else name


def default_version(name: str) -> str:
    """Return the version in the name of a default provider, an empty text where it has none."""
    match = _VERSION_IN_NAME.match(name)
    return match[1].replace("_", ".") if match else ""


def settings_of(inputs: Properties) -> Properties:
    """Return what of a provider resource's inputs is for the plugin."""
    return {key: value for key, value in inputs.items() if key != INTERNAL}


def version_of(inputs: Properties) -> str:
    """Return the plugin version that a provider resource asks for, an empty text for any."""
    internal = inputs.get(INTERNAL)
    version = internal.get("version") if isinstance(internal, dict) else None
    version = version or inputs.get("version")
    return version if isinstance(version, str) else ""
