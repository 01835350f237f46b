"""The environment's bucket and its lifecycle rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from trainyard.provider.resources import Bucket, BucketArgs, BucketLifecycle, BucketLifecycleArgs


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsArgs:
    """Which bucket, and the rules by which its objects expire."""

    bucket: str | None
    store: str | None
    env_id: str | None
    lifecycle: Sequence[Mapping[str, object]]


class Results(pulumi.ComponentResource):
    """Where results are kept. Destroy leaves the bucket and everything in it."""

    name: pulumi.Output[str]
    store: pulumi.Output[str]
    endpoint: pulumi.Output[str | None]
    region: pulumi.Output[str]

    def __init__(self, name: str, args: ResultsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("trainyard:components:Results", name, {}, opts)
        bucket = Bucket(name, BucketArgs(bucket=args.bucket, store=args.store, env_id=args.env_id), pulumi.ResourceOptions(parent=self))
        self.name, self.store, self.endpoint, self.region = bucket.name, bucket.store, bucket.endpoint, bucket.region
        self._label, self._rules = name, args.lifecycle
        self.register_outputs({"name": bucket.name})

    def declare_rules(self, fence_id: pulumi.Output[str]) -> pulumi.Output[Sequence[Mapping[str, object]]]:
        """Declare the rules as those of the environment with this fence, for other stacks may declare theirs; return those that stand."""
        args = BucketLifecycleArgs(bucket=self.name, store=self.store, rules=self._rules, fence_id=fence_id)
        return BucketLifecycle(self._label, args, pulumi.ResourceOptions(parent=self)).rules
