"""An environment: SSH key, fence, bucket with its rules, and the pods that its settings declare."""

from __future__ import annotations

from pathlib import Path

import pulumi

from trainyard.program.bucket import Results, ResultsArgs
from trainyard.program.pod import LeasedPod, LeasedPodArgs
from trainyard.provider.resources import Lease, LeaseArgs, SshKey, SshKeyArgs
from trainyard.settings.table import NO_BUCKET, StackSettings


class Environment(pulumi.ComponentResource):
    """Everything that runs share. It costs nothing until a pod is asked for."""

    outputs: dict[str, pulumi.Input[object]]

    def __init__(self, name: str, args: StackSettings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("trainyard:components:Environment", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        key = SshKey("key", SshKeyArgs(own_key_file=args.ssh_key_file), child)
        results = self._results(args)
        fence = Lease(
            "fence",
            LeaseArgs(cloud=args.cloud, bucket=results.name if results else None, store=results.store if results else None),
            # Deleted before the key: while the cloud has not proved that nothing is left, what is left may have to be logged in to.
            pulumi.ResourceOptions(parent=self, depends_on=[key]),
        )
        pods = [self._pod(f"pod-{index}", args, key, fence, results) for index in range(args.pods)]
        self.outputs = {
            "cloud": args.cloud,
            "fence_id": fence.fence_id,
            "bucket": results.name if results else NO_BUCKET,
            "store": results.store if results else None,
            "endpoint": results.endpoint if results else None,
            "region": results.region if results else None,
            "lifecycle": results.declare_rules(fence.fence_id) if results else [],
            "ssh_public_key": key.public_key,
            "ssh_key_file": key.key_file,
            "ssh_private_key": key.private_key,
            "host_key_seed": key.host_key_seed,
            "pods": [pod.outputs for pod in pods],
        }
        self.register_outputs({"fence_id": fence.fence_id})

    def _results(self, args: StackSettings) -> Results | None:
        if not args.has_bucket:
            return None
        return Results(
            "results",
            ResultsArgs(bucket=args.bucket, store=args.store, env_id=args.env_id, lifecycle=args.lifecycle),
            pulumi.ResourceOptions(parent=self),
        )

    def _pod(self, name: str, args: StackSettings, key: SshKey, fence: Lease, results: Results | None) -> LeasedPod:
        private = key.private_key.apply(_require_key) if args.ssh_key_file is None else read_key(Path(args.ssh_key_file))
        return LeasedPod(
            name,
            LeasedPodArgs(
                settings=args,
                fence_id=fence.fence_id,
                public_key=key.public_key,
                private_key=private,
                host_key_seed=key.host_key_seed,
                bucket=results.name if results else None,
                store=results.store if results else None,
                renew=True,
            ),
            pulumi.ResourceOptions(parent=self),
        )


def _require_key(private_key: str | None) -> str:
    if private_key is None:
        raise pulumi.RunError("the state of this stack's SshKey holds no private key")
    return private_key


def read_key(path: Path) -> pulumi.Output[str]:
    """Return a private key as a secret; raises RunError when its file cannot be read."""
    try:
        return pulumi.Output.secret(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise pulumi.RunError(f"the private key {path} cannot be read: {error}") from None
