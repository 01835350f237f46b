"""The resources as a Python program declares them: typed arguments in, outputs out.

The shapes are those of the schema (a test compares them). Pods refuse ``protect`` and ``retain_on_delete``,
their own or inherited ones: either would keep a pod on the bill after destroy.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import pulumi

from trainyard import problems
from trainyard.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ArgsT = TypeVar("ArgsT", bound=DataclassInstance)
else:
    ArgsT = TypeVar("ArgsT")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseArgs:
    """What a lease needs; without ``hours`` it is a fence."""

    cloud: pulumi.Input[str]
    hours: pulumi.Input[float] | None = None
    rescue_minutes: pulumi.Input[float] | None = None
    budget: pulumi.Input[float] | None = None
    fence_id: pulumi.Input[str] | None = None
    renew: pulumi.Input[bool] | None = None
    store: pulumi.Input[str] | None = None
    bucket: pulumi.Input[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodArgs:
    """What a pod needs; see the provider's schema for each."""

    cloud: pulumi.Input[str]
    lease_id: pulumi.Input[str]
    fence_id: pulumi.Input[str]
    end: pulumi.Input[str]
    host_key_seed: pulumi.Input[str]
    public_key: pulumi.Input[str]
    stop: pulumi.Input[str] | None = None
    heartbeat_minutes: pulumi.Input[float] | None = None
    budget: pulumi.Input[float] | None = None
    gpus: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    gpu_count: pulumi.Input[int] | None = None
    disk_gb: pulumi.Input[int] | None = None
    max_price: pulumi.Input[float] | None = None
    regions: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    tier: pulumi.Input[str] | None = None
    spot: pulumi.Input[bool] | None = None
    image: pulumi.Input[str] | None = None
    template: pulumi.Input[str] | None = None
    volume: pulumi.Input[str] | None = None
    ports: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    env: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    registry: pulumi.Input[str] | None = None
    min_cuda: pulumi.Input[str] | None = None
    min_vram_gb: pulumi.Input[float] | None = None
    only_offers: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    avoid_offers: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    store: pulumi.Input[str] | None = None
    bucket: pulumi.Input[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointArgs:
    """Which pod, and how long each phase of its boot may take."""

    cloud: pulumi.Input[str]
    pod_id: pulumi.Input[str]
    boot_accepted_minutes: pulumi.Input[float] | None = None
    boot_image_minutes: pulumi.Input[float] | None = None
    image_gb: pulumi.Input[float] | None = None
    boot_ssh_minutes: pulumi.Input[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketArgs:
    """Which bucket; nothing given: the environment's own."""

    bucket: str | None = None
    store: str | None = None
    env_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLifecycleArgs:
    """The rules of a bucket."""

    bucket: pulumi.Input[str]
    rules: pulumi.Input[Sequence[Mapping[str, object]]] | None = None
    store: pulumi.Input[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKeyArgs:
    """The user's own key file; nothing given: a key is made."""

    own_key_file: str | None = None


class TypedResource(pulumi.CustomResource, Generic[ArgsT]):
    """A resource of our provider under its class's name; the attributes that a class names are its outputs."""

    kept: ClassVar[bool] = True
    """Whether ``protect`` and ``retain_on_delete`` may keep it after destroy."""

    def __init__(self, name: str, args: ArgsT, opts: pulumi.ResourceOptions | None = None) -> None:
        shape = next(each for each in type(self).__mro__ if TypedResource in each.__bases__)  # not a subclass of the user's
        kind, props = shape.__name__, dict[str, pulumi.Input[object] | None].fromkeys(shape.__annotations__)
        props.update({field.name: value for field in dataclasses.fields(args) if (value := getattr(args, field.name)) is not None})
        super().__init__(f"trainyard:index:{kind}", name, props, opts if self.kept else _deletable(kind, name, opts))


class Lease(TypedResource[LeaseArgs]):
    """The right of pods to exist."""

    kept = False

    lease_id: pulumi.Output[str]
    fence_id: pulumi.Output[str]
    start: pulumi.Output[str]
    stop: pulumi.Output[str | None]
    end: pulumi.Output[str | None]
    budget: pulumi.Output[float | None]
    closed: pulumi.Output[bool]


class Pod(TypedResource[PodArgs]):
    """One rented machine. ``name`` and ``host_key`` are known before it exists."""

    kept = False

    name: pulumi.Output[str]
    pod_id: pulumi.Output[str]
    price_per_hour: pulumi.Output[float | None]
    gpu: pulumi.Output[str | None]
    gpu_count: pulumi.Output[int]
    region: pulumi.Output[str | None]
    offer: pulumi.Output[str | None]
    created_at: pulumi.Output[str | None]
    workspace: pulumi.Output[str]
    host_key: pulumi.Output[str]
    volume_path: pulumi.Output[str | None]
    api_address: pulumi.Output[str | None]
    simulated: pulumi.Output[bool]


class Endpoint(TypedResource[EndpointArgs]):
    """Where a pod's SSH server answers."""

    host: pulumi.Output[str]
    port: pulumi.Output[int]
    user: pulumi.Output[str]
    workspace: pulumi.Output[str]


class Bucket(TypedResource[BucketArgs]):
    """The bucket that results are kept in; destroy never deletes it."""

    name: pulumi.Output[str]
    store: pulumi.Output[str]
    endpoint: pulumi.Output[str | None]
    region: pulumi.Output[str]
    adopted: pulumi.Output[bool]


class BucketLifecycle(TypedResource[BucketLifecycleArgs]):
    """The rules by which objects of the bucket expire."""

    rules: pulumi.Output[Sequence[Mapping[str, object]]]
    kept_in: pulumi.Output[str]


class SshKey(TypedResource[SshKeyArgs]):
    """The login key of a stack and the seed of its pods' host keys."""

    public_key: pulumi.Output[str]
    private_key: pulumi.Output[str | None]
    key_file: pulumi.Output[str]
    host_key_seed: pulumi.Output[str]


def _deletable(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    """Refuse options, own or inherited, under which destroy would leave a pod running.

    The SDK does not tell a child that its parent has retain_on_delete; an own ``False`` keeps it from being inherited.
    """
    given = copy.copy(opts) if opts else pulumi.ResourceOptions()
    inherited = given.parent._protect if given.parent is not None else None
    for option, value in (("protect", given.protect or inherited), ("retain_on_delete", given.retain_on_delete)):
        if value:
            raise wrong_setting(f"{kind} '{name}': {option} is refused (own or inherited): destroy would leave a pod that costs money")
    given.protect = given.retain_on_delete = False
    return given


def wrong_setting(text: str) -> pulumi.RunError:
    """Return the error that ends the program; whoever started the engine hears of what kind it is."""
    problems.note(UserError(text))
    return pulumi.RunError(text)
