"""Serves the program: ResourceMonitor and Engine, translated to goals and back.

Each request is planned and carried out in the thread that serves it: the SDK sends a registration when its
inputs are known, so the order of dependencies comes by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from trainyard.engine import requests
from trainyard.engine import urn as urns
from trainyard.engine.codec import write_struct
from trainyard.engine.events import Severity
from trainyard.engine.goal import Goal
from trainyard.engine.hook import EngineError, ReadableError, kind_of
from trainyard.engine.kinds import Properties
from trainyard.engine.operation import Operation, Stopped
from trainyard.engine.project import DENIED_DEFAULTS
from trainyard.engine.provider import ProviderError
from trainyard.engine.refusals import check_fields, check_request, position, refused
from trainyard.engine.state import Resource
from trainyard.engine.steps import read, register
from trainyard.engine.values import equal

FEATURES = {
    "secrets": resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    "resourceReferences": resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES,
    "outputValues": resource_pb2.RESOURCE_MONITOR_FEATURE_OUTPUT_VALUES,
    "aliasSpecs": resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    "deletedWith": resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
    "replaceWith": resource_pb2.RESOURCE_MONITOR_FEATURE_REPLACE_WITH,
}
_SEVERITIES: dict[int, Severity] = {engine_pb2.INFO: "info", engine_pb2.WARNING: "warning", engine_pb2.ERROR: "error"}
_REFUSED_CALLS = {
    "Call": "calls of resource methods",
    "RegisterStackTransform": "stack transforms",
    "RegisterStackInvokeTransform": "invoke transforms",
    "RegisterResourceHook": "resource hooks",
    "RegisterErrorHook": "error hooks",
    "RegisterPackage": "parameterized packages",
    "StreamInvoke": "streamed invokes",
    "ExistsResource": "questions whether a resource exists",
}


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """One program's monitor."""

    def __init__(self, operation: Operation) -> None:
        self._op = operation
        self._lock = threading.Lock()
        self._goals: dict[str, Goal] = {}
        self._component_providers: dict[str, dict[str, str]] = {}
        self._defaults: dict[tuple[str, str, str], str] = {}
        self._defaults_lock = threading.Lock()
        self._stack_outputs: tuple[str, Properties] | None = None

    def GetDeploymentInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Tell the program what it runs in."""
        op = self._op
        return resource_pb2.DeploymentInfo(
            project=op.project.name, stack=op.stack, organization="organization", config=dict(op.settings.values),
            configSecretKeys=sorted(op.settings.secret_keys), dryRun=op.preview, parallel=op.parallel,
            supportedFeatures=list(FEATURES.values()),
        )  # fmt: skip

    def SupportsFeature(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer for one feature (SDKs without GetDeploymentInfo)."""
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in FEATURES)

    def RegisterResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Bring one resource to its goal."""
        return self._guarded(context, lambda: self._register(request), request)

    def ReadResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Read a resource that is not ours."""
        return self._guarded(context, lambda: self._read(request), request)

    def RegisterResourceOutputs(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Set the outputs of a component; those of the stack wait for the end."""
        return self._guarded(context, lambda: self._register_outputs(request))

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Call a function of a package."""
        return self._guarded(context, lambda: self._invoke(request), request)

    def SignalAndWaitForShutdown(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The program has finished; there is nothing to wait for."""
        return empty_pb2.Empty()

    def finish(self) -> Properties:
        """Set the stack's outputs now that it is known how the operation went, and return them."""
        if self._stack_outputs is None:
            return {}
        urn, outputs = self._stack_outputs
        stack = self._op.registered.get(urn)
        if stack is None:
            return outputs
        old = self._op.olds.get(urn)
        if self._op.stopping.is_set():
            outputs = {**(old.outputs if old else {}), **outputs}
        self._set_outputs(stack, outputs)
        return outputs

    def _register(self, request: Any) -> Any:
        op = self._op
        check_request(request)
        goal = requests.goal_of(request, op)
        self._inherit(goal)
        providers = dict(request.providers)
        if goal.custom and not urns.is_provider(goal.type):
            goal.provider = self._provider_for(goal, providers, request)
        elif not goal.custom:
            providers = {**self._component_providers.get(goal.parent, {}), **providers}
        resource = register(op, goal)
        with self._lock:
            self._goals[resource.urn] = goal
            if not goal.custom:
                self._component_providers[resource.urn] = providers
        response = resource_pb2.RegisterResourceResponse(urn=resource.urn, id=resource.id)
        if goal.custom:
            outputs = resource.outputs
            response.object.CopyFrom(write_struct(outputs, secrets=request.acceptSecrets, references=request.acceptResources))
        return response

    def _inherit(self, goal: Goal) -> None:
        """Take over from the parent's request what a child does not set itself."""
        parent = self._goals.get(goal.parent)
        if parent is None:
            return
        goal.deleted_with = goal.deleted_with or parent.deleted_with
        goal.protect = parent.protect if goal.protect is None else goal.protect
        goal.retain_on_delete = parent.retain_on_delete if goal.retain_on_delete is None else goal.retain_on_delete
        if not goal.provider and parent.provider:
            same = urns.package_of(urns.type_of(urns.split_reference(parent.provider)[0])) == urns.package_of(goal.type)
            if same or not goal.custom:
                goal.provider = parent.provider

    def _provider_for(self, goal: Goal, providers: dict[str, str], request: Any) -> str:
        package = urns.package_of(goal.type)
        inherited = self._component_providers.get(goal.parent, {})
        return goal.provider or providers.get(package) or inherited.get(package) or self._default(package, request, goal.name)

    def _default(self, package: str, request: Any, user: str) -> str:
        """Return the default provider of a package; the first request registers it."""
        from trainyard.engine.providers import default_inputs, default_name

        denied = self._op.settings.denied_defaults()
        if "*" in denied or package in denied:
            raise EngineError(
                f"the default provider of '{package}' is switched off ({DENIED_DEFAULTS}): '{user}' needs a provider of its own"
            )
        version, url = request.version, request.pluginDownloadURL
        with self._defaults_lock:
            known = self._defaults.get((package, version, url))
            if known is None:
                inputs = default_inputs(self._op.settings.of_package(package), version, url)
                resource = register(self._op, Goal(urns.provider_type(package), default_name(version, url), True, inputs=inputs))
                known = self._defaults[package, version, url] = urns.reference(resource.urn, resource.id)
            return known

    def _read(self, request: Any) -> Any:
        check_request(request)
        goal = requests.read_goal_of(request, self._op)
        self._inherit(goal)
        goal.provider = self._provider_for(goal, {}, request)
        resource = read(self._op, goal, request.id)
        response = resource_pb2.ReadResourceResponse(urn=resource.urn, id=resource.id)
        response.properties.CopyFrom(write_struct(resource.outputs, secrets=request.acceptSecrets, references=request.acceptResources))
        return response

    def _register_outputs(self, request: Any) -> Any:
        outputs = self._op.wire.read(request.outputs)
        if urns.qualified_type(request.urn) == urns.STACK_TYPE:
            self._stack_outputs = (request.urn, outputs)
            return empty_pb2.Empty()
        resource = self._op.registered.get(request.urn)
        if resource is None:
            raise EngineError(f"outputs for {request.urn}, which is not registered")
        self._set_outputs(resource, outputs)
        return empty_pb2.Empty()

    def _set_outputs(self, resource: Resource, outputs: Properties) -> None:
        changed = not equal(resource.outputs, outputs)
        resource.outputs = outputs
        if changed:
            self._op.state.write()

    def _invoke(self, request: Any) -> Any:
        op = self._op
        arguments = op.wire.read(request.args)
        if request.tok == "pulumi:pulumi:getResource":
            return self._get_resource(arguments)
        if request.tok.startswith("pulumi:"):
            raise refused(f"the built-in function {request.tok}")
        check_fields(request)
        op.check_running()
        package = urns.package_of(request.tok)
        inherited = self._component_providers.get(request.parent, {}).get(package)
        reference = request.provider or inherited or self._default(package, request, request.tok)
        try:
            result, failures = op.providers.get(reference).invoke(request.tok, arguments, op.preview)
        except ProviderError as error:  # the program's affair: it may have another way
            raise _AnswerError(f"invocation of {request.tok} returned an error: {error}") from None
        response = resource_pb2.ResourceInvokeResponse()
        getattr(response, "return").CopyFrom(write_struct(result, references=request.acceptResources))
        for prop, reason in failures:
            response.failures.add(property=prop, reason=reason)
        return response

    def _get_resource(self, arguments: Properties) -> Any:
        """Return a registered resource by its URN: the SDK follows resource references with it."""
        resource = self._op.registered.get(str(arguments.get("urn")))
        if resource is None:
            raise EngineError(f"there is no resource {arguments.get('urn')}")
        response = resource_pb2.ResourceInvokeResponse()
        answer = {"urn": resource.urn, "id": resource.id, "state": resource.outputs}
        getattr(response, "return").CopyFrom(write_struct(answer))
        return response

    def _guarded(self, context: grpc.ServicerContext, work: Callable[[], Any], request: Any = None) -> Any:
        """Answer a request; an error is reported here and ends the program with UNAVAILABLE.

        Whatever is raised, a reply is sent: without one the program would wait for ever.
        """
        try:
            return work()
        except Stopped:
            pass
        except _AnswerError as told:
            context.abort(grpc.StatusCode.UNKNOWN, str(told))
        except ReadableError as error:
            if error.where is None and request is not None:
                error.where = position(request)
            self._op.fail(str(error), kind=kind_of(error))
        except BaseException as error:
            self._op.fail(f"{type(error).__name__}: {error}")
            context.abort(grpc.StatusCode.UNAVAILABLE, "resource monitor shut down")
            raise
        _stop(context)


class _AnswerError(Exception):
    """An answer that is an error, for the program alone."""


def _stop(context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNAVAILABLE, "resource monitor shut down")
    raise AssertionError("abort raises")


def _refusing(what: str) -> Callable[..., Any]:
    def answer(self: Monitor, request: Any, context: grpc.ServicerContext) -> Any:
        self._op.fail(str(refused(what)), kind="refused")
        _stop(context)

    return answer


for _name, _what in _REFUSED_CALLS.items():
    setattr(Monitor, _name, _refusing(_what))


class EngineService(engine_pb2_grpc.EngineServicer):
    """Takes the messages of program and plugins."""

    def __init__(self, say: Callable[[Severity, str, str], None]) -> None:
        self._say = say
        self._root = ""

    def Log(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Pass a message on; debug messages are for developers of the SDK."""
        severity = _SEVERITIES.get(request.severity)
        if severity and request.message.strip():
            self._say(severity, request.message, request.urn)
        return empty_pb2.Empty()

    def GetRootResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return the stack's URN (old SDKs)."""
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Take the stack's URN (old SDKs)."""
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def StartDebugging(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Refuse: a program in this process is debugged as any Python program."""
        context.abort(grpc.StatusCode.UNIMPLEMENTED, str(refused("attaching a debugger")))

    def RequirePulumiVersion(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The range is meant for the CLI; what this engine lacks it refuses by name."""
        return engine_pb2.RequirePulumiVersionResponse()
