"""The resources as a Python program declares them: typed arguments in, outputs out.

Made by ``python -m trainyard.provider.generate`` from the inputs and outputs of the provider's handlers. Do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from trainyard.provider.typed import TypedResource


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseArgs:
    """Inputs of a lease."""

    cloud: pulumi.Input[str]
    """Cloud that the pods of this lease live on."""
    hours: pulumi.Input[float] | None = None
    """Hours until training is stopped. None: a fence, without deadline."""
    rescue_minutes: pulumi.Input[float] | None = None
    """Minutes between stop and end, for the last checkpoint and the result."""
    budget: pulumi.Input[float] | None = None
    """Dollars after which training is stopped."""
    fence_id: pulumi.Input[str] | None = None
    """Id of the environment's lease that this one lies under. None: this is a fence."""
    wait_hours: pulumi.Input[float] | None = None
    """Hours that the pod may wait for its machine, before those of the lease begin."""
    renew: pulumi.Input[bool] | None = None
    """Replace the lease (and with it the pod) when it has expired; else an expired lease is an error."""
    store: pulumi.Input[str] | None = None
    """Kind of the store that holds the bucket."""
    bucket: pulumi.Input[str] | None = None
    """Bucket that tells other machines when the fence is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodArgs:
    """Inputs of a pod."""

    cloud: pulumi.Input[str]
    """Cloud to rent from."""
    lease_id: pulumi.Input[str]
    """Id of the lease that gives the pod its right to exist."""
    fence_id: pulumi.Input[str]
    """Id of the environment's lease."""
    stop: pulumi.Input[str] | None = None
    """When training is stopped (UTC); from the lease."""
    end: pulumi.Input[str]
    """When the pod is gone, whatever it holds (UTC); from the lease."""
    host_key_seed: pulumi.Input[str]
    """Seed that the pod's host key is derived from (64 hex characters)."""
    public_key: pulumi.Input[str]
    """SSH public key that may log in."""
    budget: pulumi.Input[float] | None = None
    """Dollars after which training is stopped."""
    heartbeat_minutes: pulumi.Input[float] | None = None
    """Idle minutes without a controller after which the pod ends itself; 0 or none: never."""
    idle_minutes: pulumi.Input[float] | None = None
    """Minutes without a job and an SSH session after which the pod ends itself; none: never."""
    stall_minutes: pulumi.Input[float] | None = None
    """Minutes without a sign of life of its job after which that is stopped; none: never."""
    gpus: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    """GPU names in order of preference; empty: a pod without GPU."""
    gpu_count: pulumi.Input[int] | None = None
    """Number of GPUs."""
    disk_gb: pulumi.Input[int] | None = None
    """Disk in GB."""
    max_price: pulumi.Input[float] | None = None
    """Dollars per hour that no offer may exceed."""
    regions: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    """Regions to rent in; empty: any."""
    tier: pulumi.Input[str] | None = None
    """The cloud's class of machines (SECURE or COMMUNITY)."""
    spot: pulumi.Input[bool] | None = None
    """Rent interruptible capacity."""
    image: pulumi.Input[str] | None = None
    """Container image."""
    template: pulumi.Input[str] | None = None
    """The cloud's template instead of an image."""
    volume: pulumi.Input[str] | None = None
    """Network volume to mount."""
    ports: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    """Ports to open, like 22/tcp."""
    env: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    """Environment of the pod. Never an account key or a bucket key."""
    registry: pulumi.Input[str] | None = None
    """The cloud's registry credential for a private image."""
    min_cuda: pulumi.Input[str] | None = None
    """Lowest CUDA version that the machine's driver must carry."""
    min_vram_gb: pulumi.Input[float] | None = None
    """Least memory of each GPU in GB."""
    reliability: pulumi.Input[float] | None = None
    """Least reliability of a marketplace's host (0 to 1)."""
    inet_down: pulumi.Input[float] | None = None
    """Least speed (Mbit/s) at which a marketplace's host downloads."""
    only_offers: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    """Ids of the only offers to try, in this order."""
    options: pulumi.Input[Mapping[str, pulumi.Input[str]]] | None = None
    """Settings that mean something to this cloud alone, by their names."""
    avoid_offers: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    """Ids of offers never to take."""
    container_bundle: pulumi.Input[str] | None = None
    """On clouds without SSH: sha256 of the bundle that the container is made of."""
    container_secrets: pulumi.Input[str] | None = None
    """On clouds without SSH: what the container may know and nobody else, as one variable."""
    store: pulumi.Input[str] | None = None
    """Kind of the store whose bucket says whether the environment is closed."""
    bucket: pulumi.Input[str] | None = None
    """Bucket that says whether the environment is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointArgs:
    """Inputs of an endpoint."""

    cloud: pulumi.Input[str]
    """Cloud of the pod."""
    pod_id: pulumi.Input[str]
    """The cloud's id of the pod."""
    boot_accepted_minutes: pulumi.Input[float] | None = None
    """Minutes until the cloud starts the pod."""
    boot_image_minutes: pulumi.Input[float] | None = None
    """Minutes until the image is there and the container runs; see image_gb."""
    image_gb: pulumi.Input[float] | None = None
    """Size of the image: without boot_image_minutes, 10 minutes, and a half more for each GB above 16."""
    boot_ssh_minutes: pulumi.Input[float] | None = None
    """Minutes until its SSH server answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketArgs:
    """Inputs of a bucket."""

    bucket: str | None = None
    """Name of the bucket. None: trainyard-<env id>."""
    store: str | None = None
    """Kind of the store: local, runpod, aws, r2 or s3. None: the one whose credentials are set."""
    env_id: str | None = None
    """Id of the environment (8 hex characters). None: made once for this stack and user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLifecycleArgs:
    """Inputs of the rules."""

    bucket: pulumi.Input[str]
    """Bucket the rules are for."""
    store: pulumi.Input[str] | None = None
    """Kind of the store."""
    rules: pulumi.Input[Sequence[Mapping[str, object]]] | None = None
    """Rules: id, prefix, and at least one of expire_days, noncurrent_days, abort_uploads_days."""
    fence_id: pulumi.Input[str] | None = None
    """Id of the environment's lease: who declares them, where several share a bucket. None: the stack's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SshKeyArgs:
    """Inputs of an SSH key."""

    own_key_file: str | None = None
    """The user's own private key file; its .pub lies beside it. None: a key is made."""


class Lease(TypedResource[LeaseArgs]):
    """The right of pods to exist: made before them, deleted after them. Its deletion proves that none is left."""

    kept = False

    lease_id: pulumi.Output[str]
    """Random id of the lease, carried by its pods."""
    fence_id: pulumi.Output[str]
    """Id of the fence: of the environment's lease, or this one's own."""
    start: pulumi.Output[str]
    """When the lease began (UTC)."""
    stop: pulumi.Output[str | None]
    """When training is stopped (UTC)."""
    end: pulumi.Output[str | None]
    """When the pod is gone, whatever it holds (UTC)."""
    budget: pulumi.Output[float | None]
    """Dollars after which training is stopped."""
    closed: pulumi.Output[bool]
    """A destroy has begun to end what lies under it."""


class Pod(TypedResource[PodArgs]):
    """One rented machine. It needs a lease, and it is replaced with the old one deleted first."""

    kept = False

    name: pulumi.Output[str]
    """Name in the cloud: ty-<fence id>-<lease id>-<logical name>-<hash>."""
    pod_id: pulumi.Output[str]
    """The cloud's id of the pod."""
    price_per_hour: pulumi.Output[float | None]
    """Dollars per hour for the whole pod."""
    gpu: pulumi.Output[str | None]
    """GPU that was rented."""
    gpu_count: pulumi.Output[int]
    """Number of GPUs."""
    region: pulumi.Output[str | None]
    """Where it is."""
    offer: pulumi.Output[str | None]
    """Id of the offer that was taken; None when the pod was adopted."""
    created_at: pulumi.Output[str | None]
    """When the cloud created it (UTC)."""
    workspace: pulumi.Output[str]
    """The pod's workspace folder, as processes in it see it."""
    host_key: pulumi.Output[str]
    """Public host key of the pod's SSH server, known before it exists."""
    first_commands: pulumi.Output[str | None]
    """Lines of sh for the first contact, to be run by root; none: the create request brought them."""
    volume_path: pulumi.Output[str | None]
    """Where the network volume is mounted on the pod."""
    api_address: pulumi.Output[str | None]
    """Where the cloud's API was asked, when not at its own address."""
    simulated: pulumi.Output[bool]
    """An emulator answered, not the real cloud."""


class Endpoint(TypedResource[EndpointArgs]):
    """Where a pod's SSH server answers. Its creation waits for it; its deletion does nothing."""

    host: pulumi.Output[str]
    """Host name or address."""
    port: pulumi.Output[int]
    """Port of the SSH server."""
    user: pulumi.Output[str]
    """Login name."""
    login_command: pulumi.Output[Sequence[str] | None]
    """Command that leads to a pod without an sshd of its own; none: it has one."""
    through: pulumi.Output[str | None]
    """Machine whose sshd leads to the pod's own, as ssh://user@name:port; none: it is dialled directly."""
    workspace: pulumi.Output[str]
    """The pod's workspace folder, as processes in it see it."""
    host_key: pulumi.Output[str | None]
    """Host key that was recorded at the first contact; none: the pod's own was known before it existed."""


class Bucket(TypedResource[BucketArgs]):
    """The bucket that results are kept in: adopted or created, proven by a canary, never deleted."""

    name: pulumi.Output[str]
    """Name of the bucket."""
    store: pulumi.Output[str]
    """Kind of the store."""
    endpoint: pulumi.Output[str | None]
    """Address of the store; None: Amazon's own."""
    region: pulumi.Output[str]
    """Region of the bucket."""
    adopted: pulumi.Output[bool]
    """It was there before this stack."""


class BucketLifecycle(TypedResource[BucketLifecycleArgs]):
    """The rules by which objects of the bucket expire; rules of others in the same bucket are left alone, those of other stacks, too."""

    rules: pulumi.Output[Sequence[Mapping[str, object]]]
    """The rules as they stand."""
    kept_in: pulumi.Output[str]
    """'store': the store does it; 'object': kept in the bucket, for `invoke gc`; 'unseen': this key may not look; 'none': no bucket."""
    left_out: pulumi.Output[Sequence[str]]
    """Ids of rules without their `abort_uploads_days`, which this store does not take."""


class SshKey(TypedResource[SshKeyArgs]):
    """The login key of a stack and the seed of its pods' host keys; kept in state, encrypted."""

    public_key: pulumi.Output[str]
    """Public key line."""
    private_key: pulumi.Output[str | None]
    """Private key (OpenSSH PEM); None for the user's own key, which is never copied."""
    key_file: pulumi.Output[str]
    """Path of the private key on the machine that last ran up."""
    host_key_seed: pulumi.Output[str]
    """Seed that host keys are derived from, with the pod's name."""
