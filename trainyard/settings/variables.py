"""The one table of environment variables that Trainyard itself gives a meaning, in groups: keys, places, choices.

Whoever drops keys, hands them on, asks whether a group is whole or shows what may be set takes the names from here; a test
holds every other place that spells one against it. Pulumi's, pip's and the system's own variables are not ours to list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from trainyard.settings.clouds import BUILT_IN, CloudEntry, added_clouds

Sort = Literal["cloud", "store", "source", "token", "place", "choice", "local", "setup", "old", "pod", "process"]
"""cloud, store: what an account or a bucket is opened with. source: what data are read with or the ledger is opened with, by the
controller alone. token: of a training, never handed to an engine. old: of older guides. pod: told to what runs on a pod. process:
told by one process of ours to another; nobody sets it."""
SETTABLE: tuple[Sort, ...] = ("cloud", "store", "source", "place", "choice", "local", "setup", "old")
"""Sorts that a person may set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableGroup:
    """Variables that mean something together."""

    sort: Sort
    of: str
    """The cloud or the store, else what the group is about."""
    says: str
    keys: tuple[str, ...] = ()
    """Secrets that are needed, all of them."""
    needed: tuple[str, ...] = ()
    """What else is needed, and is no secret."""
    usual: tuple[str, ...] = ()
    """What may be absent, and mostly is set."""
    more: tuple[str, ...] = ()
    """What may be absent."""
    more_keys: tuple[str, ...] = ()
    """Secrets that may be absent."""

    def names(self) -> Iterator[str]:
        """Yield all of them, those that are needed first."""
        yield from (*self.keys, *self.needed, *self.usual, *self.more_keys, *self.more)


def _of_cloud(cloud: CloudEntry) -> Iterator[VariableGroup]:
    """Yield what a cloud's row says of variables."""
    if cloud.keys:
        yield VariableGroup(
            sort="cloud", of=cloud.name, says=f"the key of the {cloud.title} account", keys=cloud.keys, more_keys=cloud.key_aliases
        )
    if cloud.more:
        says = f"of `{cloud.name}`: other addresses of its API (a proxy, an emulator), seconds until a create counts as answered or absent"
        says += ", and what its page tells"
        yield VariableGroup(sort="setup", of=f"{cloud.title}'s API", says=says, more=cloud.more)
    if cloud.pod_variables:
        yield VariableGroup(sort="pod", of=f"{cloud.title}'s own", says=f"what {cloud.title} tells a pod", more=cloud.pod_variables)


GROUPS: tuple[VariableGroup, ...] = (
    *(group for cloud in BUILT_IN for group in _of_cloud(cloud)),
    VariableGroup(
        sort="store", of="runpod", says="RunPod's S3; its bucket is the network volume's id",
        keys=("RUNPOD_S3_ACCESS_KEY", "RUNPOD_S3_SECRET_KEY"), needed=("RUNPOD_S3_ENDPOINT",), usual=("RUNPOD_S3_BUCKET",),
    ),
    VariableGroup(
        sort="store", of="r2", says="Cloudflare R2", keys=("R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"), needed=("R2_ENDPOINT_URL",),
        usual=("R2_BUCKET_NAME",),
    ),
    VariableGroup(
        sort="store", of="aws", says="AWS S3 or, with an endpoint, another store", keys=("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        usual=("AWS_REGION", "AWS_BUCKET"), more_keys=("AWS_SESSION_TOKEN",),
        more=("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_CREDENTIAL_EXPIRATION"),
    ),
    VariableGroup(
        sort="source", of="gcs", says="HMAC keys of Google Cloud Storage: data are read from gs://",
        keys=("GCS_ACCESS_KEY_ID", "GCS_SECRET_ACCESS_KEY"), more=("GCS_ENDPOINT_URL",),
    ),
    VariableGroup(
        sort="token", of="training", says="tokens of a training; a pod gets those that `pod_secrets` names",
        more_keys=("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"),
    ),
    VariableGroup(
        sort="token", of="notices", says="signs the requests to a webhook that `notify` names",
        more_keys=("TRAINYARD_WEBHOOK_KEY",),
    ),
    VariableGroup(
        sort="token", of="trackers", says="of `trackers`, beside WANDB_API_KEY and HF_TOKEN; they stay on this machine",
        more_keys=("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
        more=(
            "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "WANDB_ENTITY", "WANDB_BASE_URL", "WANDB_MODE", "TRACKIO_SPACE_ID",
            "TRACKIO_SERVER_URL",
        ),
    ),
    VariableGroup(
        sort="place", of="places", says="instead of `.trainyard/`, `~/.local/share/trainyard`; the repository to work in",
        more=("TRAINYARD_HOME", "TRAINYARD_LOCAL_ROOT", "TRAINYARD_PROJECT_DIR"),
    ),
    VariableGroup(
        sort="place", of="base folders", says="instead of `~/.local/share`, `~/.config`, `~/.cache`",
        more=("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
    ),
    VariableGroup(
        sort="place", of="playbooks", says="the file with the password of what ansible-vault has encrypted, or a program that prints it",
        more=("TRAINYARD_VAULT_PASSWORD_FILE",),
    ),
    VariableGroup(
        sort="source", of="ledger", says="the URL of a Postgres that is the [ledger](records.md) instead of `.trainyard/ledger.db`",
        more_keys=("TRAINYARD_LEDGER",),
    ),
    VariableGroup(
        sort="choice", of="choices", says="who starts runs; `auto`, `cli` or `builtin`: it wins over the setting `engine`",
        more=("TRAINYARD_USER", "TRAINYARD_ENGINE"),
    ),
    VariableGroup(
        sort="choice", of="server", says="the account that a server does something for: set by it, it wins over who else starts runs",
        more=("TRAINYARD_ACCOUNT",),
    ),
    VariableGroup(
        sort="choice", of="recipe command", says="the program to run, on the web, and its sha256: as `--set script=URL#sha256=HEX`",
        more=("SCRIPT_URL", "SCRIPT_SHA256"),
    ),
    VariableGroup(
        sort="local", of="local pods",
        says="of a local pod: GB of memory; dollars an hour that it is said to cost; `namespace` or `process`",
        more=("TRAINYARD_LOCAL_MEMORY", "TRAINYARD_LOCAL_PRICE", "TRAINYARD_LOCAL_ISOLATION"),
    ),
    VariableGroup(
        sort="setup", of="tools", says="the Python of `./bootstrap`; the S3 server's program; a mirror of its releases",
        more=("TRAINYARD_PYTHON", "TRAINYARD_VERSITYGW", "TRAINYARD_VERSITYGW_RELEASES"),
    ),
    VariableGroup(
        sort="setup", of="ssh", says="what is called instead of `ssh` to reach a login node, with its options",
        more=("TRAINYARD_SSH_COMMAND",),
    ),
    VariableGroup(
        sort="old", of="runpod", says="of older guides; they win over the settings `gpu` and `template`",
        more=("RUNPOD_GPU_TYPE", "RUNPOD_TEMPLATE_ID"),
    ),
    VariableGroup(
        sort="setup", of="Backblaze's API", says="another address of the API that makes keys of B2 for jobs (a proxy, an emulator)",
        more=("B2_API_URL",),
    ),
    VariableGroup(
        sort="pod", of="pod", says="what a pod is told of its lease, its price and its key",
        more=(
            "TRAINYARD_STOP", "TRAINYARD_END", "TRAINYARD_LEASE_ID", "TRAINYARD_FENCE_ID", "TRAINYARD_BUDGET", "TRAINYARD_PRICE",
            "TRAINYARD_HEARTBEAT_MINUTES", "TRAINYARD_IDLE_MINUTES", "TRAINYARD_STALL_MINUTES",
            "TRAINYARD_HOST_KEY", "TRAINYARD_VOLUME", "TRAINYARD_POD_SOCKET", "TRAINYARD_SSH_READY",
            "TRAINYARD_ENDINGS", "TRAINYARD_END_COMMAND", "TRAINYARD_POD_KEYS", "TRAINYARD_SECRETS",
        ),
    ),
    VariableGroup(
        sort="pod", of="job", says="where a job may read and write in the bucket, as s3:// (`pod_store`)",
        more=("TRAINYARD_STORE_READ", "TRAINYARD_STORE_WRITE"),
    ),
    VariableGroup(
        sort="pod", of="run.sh", says="what a run's script may be told of Python, of what it goes on from, and of pods beside its own",
        more=(
            "TRAINYARD_ENVS", "TRAINYARD_LOCK", "TRAINYARD_UV", "TRAINYARD_RESUME", "TRAINYARD_INIT", "TRAINYARD_NODES", "TRAINYARD_NODE",
        ),
    ),
    VariableGroup(
        sort="pod", of="image", says="what the entrypoint of the trainer image may be told", more=("TRAINYARD_SSHD", "TRAINYARD_ROOT"),
    ),
    VariableGroup(
        sort="process", of="processes", says="between controller, engine and plugin",
        more=(
            "TRAINYARD_CONTROLLER", "TRAINYARD_ENGINE_KEYS", "TRAINYARD_PROBLEMS", "TRAINYARD_PROVIDER_PROJECT",
            "TRAINYARD_PROVIDER_PYTHON", "TRAINYARD_TYPED",
        ),
    ),
)  # fmt: skip
NO_EFFECT: Mapping[str, str] = {
    "RUNPOD_NO_GATEWAY": "Pods are always reached directly, never by the gateway.",
    "RUNPOD_DIRECT_SSH_USER": "The login name comes from the cloud.",
    "SSH_PUBLIC_KEY": "A key is made for each stack; 'trainyard:ssh_key_file: PATH' names your own pair.",
    "TRAINING_LOCATION": "Say it with --stack local or --stack runpod.",
}
"""Variables of older guides that have no effect here, and what says the same now."""


def groups(*sorts: Sort) -> tuple[VariableGroup, ...]:
    """Return the groups of some sorts, in their order, those of other packages' clouds last."""
    added = added_clouds() if {"cloud", "setup", "pod"}.intersection(sorts) else ()
    return tuple(group for group in (*GROUPS, *(group for cloud in added for group in _of_cloud(cloud))) if group.sort in sorts)


def store(kind: str) -> VariableGroup:
    """Return the variables of a store."""
    (match,) = (group for group in groups("store", "source") if group.of == kind)
    return match


def account_keys() -> Mapping[str, tuple[str, ...]]:
    """Return the keys of each cloud's account, also of clouds that cannot be rented from: no other needs them."""
    return {group.of: (*group.keys, *group.more_keys) for group in groups("cloud")}


def never_sent() -> frozenset[str]:
    """Return what an account or a bucket is opened with: no pod needs it, and a pod is somebody else's machine."""
    return frozenset(name for group in groups("cloud", "store", "source") for name in (*group.keys, *group.needed, *group.more_keys))
