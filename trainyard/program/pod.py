"""One pod under its own lease, with its address and the proof that it can be worked on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import pulumi

from trainyard.program.settings import keep_secret
from trainyard.provider.resources import Endpoint, EndpointArgs, Lease, LeaseArgs, Pod, PodArgs
from trainyard.settings.ofcloud import dials_pods, options_of, starts_watchdog, wait_hours
from trainyard.settings.table import StackSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedPodArgs:
    """What a pod needs beside its settings."""

    settings: StackSettings
    fence_id: pulumi.Input[str]
    public_key: pulumi.Input[str]
    private_key: pulumi.Input[str]
    host_key_seed: pulumi.Input[str]
    bucket: pulumi.Input[str] | None
    store: pulumi.Input[str] | None
    renew: bool
    """Replace the lease and the pod when the lease has expired (environments); a run's is an error."""
    container_bundle: str | None = None
    """On a cloud without SSH: sha256 of the bundle that the container is made of."""
    container_secrets: pulumi.Input[str] | None = None


class LeasedPod(pulumi.ComponentResource):
    """Lease, pod, endpoint and readiness. Deleting it ends the pod; the lease, deleted last, proves that it is gone."""

    outputs: dict[str, pulumi.Output[object]]

    def __init__(self, name: str, args: LeasedPodArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("trainyard:components:LeasedPod", name, {}, opts)
        lease = self._lease(name, args)
        pod = self._pod(name, args, lease)
        self.outputs = {
            "lease_id": lease.lease_id,
            "fence_id": lease.fence_id,
            "stop": lease.stop,
            "end": lease.end,
            "pod_id": pod.pod_id,
            "pod_name": pod.name,
            "price_per_hour": pod.price_per_hour,
            "gpu": pod.gpu,
            "gpu_count": pod.gpu_count,
            "pod_region": pod.region,
            "created_at": pod.created_at,
            "offer": pod.offer,
            "workspace": pod.workspace,
            "host_key": pod.host_key,
            "volume_path": pod.volume_path,
            "api_address": pod.api_address,
            "simulated": pod.simulated,
            **({} if args.container_bundle else self._way_in(name, args, pod)),
        }
        self.register_outputs({"pod_id": pod.pod_id})

    def _lease(self, name: str, args: LeasedPodArgs) -> Lease:
        settings = args.settings
        return Lease(
            name,
            LeaseArgs(
                cloud=settings.cloud,
                hours=settings.hours,
                rescue_minutes=settings.rescue_minutes,
                budget=settings.budget,
                fence_id=args.fence_id,
                wait_hours=wait_hours(settings),
                renew=args.renew,
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _pod(self, name: str, args: LeasedPodArgs, lease: Lease) -> Pod:
        settings = args.settings
        inputs = PodArgs(
            cloud=settings.cloud,
            lease_id=lease.lease_id,
            fence_id=lease.fence_id,
            stop=lease.stop.apply(_require_end),
            end=lease.end.apply(_require_end),
            budget=settings.budget,
            # Only a run has a controller that calls; a declared pod is its owner's until its lease ends.
            heartbeat_minutes=None if args.renew else settings.heartbeat_minutes,
            idle_minutes=settings.idle_minutes or None, stall_minutes=settings.stall_minutes or None,
            host_key_seed=args.host_key_seed, public_key=args.public_key,
            gpus=settings.gpu, gpu_count=settings.gpu_count, disk_gb=settings.disk_gb, max_price=settings.max_price,
            regions=settings.regions, tier=settings.tier, spot=settings.spot, image=settings.image, template=settings.template,
            volume=settings.volume, ports=settings.ports, min_cuda=settings.min_cuda, min_vram_gb=settings.min_vram_gb,
            reliability=settings.reliability, inet_down=settings.inet_down,
            env=keep_secret("pod_env", settings.pod_env), registry=keep_secret("registry", settings.registry),
            options=options_of(settings) or None,
            only_offers=settings.only_offers,
            avoid_offers=settings.avoid_offers or None,  # as ever: another value would be another pod
            bucket=args.bucket,
            store=args.store,
            container_bundle=args.container_bundle,
            container_secrets=args.container_secrets,
        )  # fmt: skip
        return Pod(name, inputs, pulumi.ResourceOptions(parent=self))

    def _way_in(self, name: str, args: LeasedPodArgs, pod: Pod) -> dict[str, pulumi.Output[object]]:
        settings = args.settings
        endpoint = Endpoint(
            name,
            EndpointArgs(
                cloud=settings.cloud,
                pod_id=pod.pod_id,
                boot_accepted_minutes=max(settings.boot_accepted_minutes, 60 * (wait_hours(settings) or 0.0)),
                boot_image_minutes=settings.boot_image_minutes,
                image_gb=settings.image_gb,
                boot_ssh_minutes=settings.boot_ssh_minutes,
            ),
            pulumi.ResourceOptions(parent=self, deleted_with=pod),
        )
        if not dials_pods(settings.cloud):
            return _address_of(endpoint)  # the endpoint has seen the pod's own host key
        from pulumi_command import remote  # 0.15 s that an environment without such pods does not pay

        contact = _contact(settings.cloud, pod, endpoint)
        remote.Command(
            name,
            connection=remote.ConnectionArgs(
                host=endpoint.host,
                port=endpoint.port,
                user=endpoint.user,
                private_key=pulumi.Output.secret(args.private_key),
                host_key=contact.host_key,
            ),
            # Only a create: anything that has to run at deletion could block the teardown of a pod that does not answer.
            create=contact.command,
            stdin=contact.stdin,
            logging=remote.Logging.NONE,
            opts=pulumi.ResourceOptions(parent=self, deleted_with=pod),
        )
        return {**_address_of(endpoint), "host_key": contact.host_key}


@dataclass(frozen=True, slots=True)
class _Contact:
    """What is run over SSH as soon as it answers, and whose host key is believed."""

    command: pulumi.Output[str]
    host_key: pulumi.Output[str]
    stdin: pulumi.Output[str] | None = None


def _contact(cloud: str, pod: Pod, endpoint: Endpoint) -> _Contact:
    if starts_watchdog(cloud):
        return _Contact(endpoint.workspace.apply(lambda path: f"mkdir -p {shlex.quote(path)} && test -w {shlex.quote(path)}"), pod.host_key)
    # A machine that was told nothing at its creation: its watchdog comes now, and its own key was recorded.
    command = endpoint.workspace.apply(lambda path: f"set -- {shlex.quote(path)}; {_AS_ROOT}")
    return _Contact(command, endpoint.host_key.apply(_require), pod.first_commands.apply(_require))


def _address_of(endpoint: Endpoint) -> dict[str, pulumi.Output[object]]:
    return {
        "host": endpoint.host, "port": endpoint.port, "user": endpoint.user,
        "login_command": endpoint.login_command, "through": endpoint.through, "workspace": endpoint.workspace,
    }  # fmt: skip


_AS_ROOT = 'if [ "$(id -u)" = 0 ]; then exec sh -es -- "$1"; else exec sudo -n sh -es -- "$1"; fi'


def _require(text: str | None) -> str:
    if text is None:
        raise pulumi.RunError("this pod's state does not hold what is needed to reach it")
    return text


def _require_end(moment: str | None) -> str:
    if moment is None:
        raise pulumi.RunError("a pod's lease has no end")
    return moment
