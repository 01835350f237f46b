"""The one table of settings: every ``trainyard:`` key, its type, default, unit, meaning, and who may know it.

A setting is a field of StackSettings (what a person writes into ``Pulumi.<stack>.yaml``) or of RunKeys (what a run's own
stack is told beside the settings that travel there). Readers, program, provider defaults, the editor's schema and
docs/settings.md come from these fields; nothing else knows a name, a type or a default. Loads the standard library only:
the provider's plugin reads defaults from here, and a user waits for its start.
"""

# Annotations are types here, not texts: the table is made of them, and evaluating texts would cost every start a millisecond.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainyard.settings.blocks import LIMIT_ACTIONS
from trainyard.settings.clouds import CloudNames, entries, entry
from trainyard.settings.setting import Encrypted, read_table, setting

STORES = ("local", "runpod", "aws", "r2", "s3")
ENGINES = ("auto", "cli", "builtin")
POD_STORES = ("none", "read", "attempt")
CONSENTS = ("ask", "always", "never")
CACHES = ("none", "auto")
TRACKERS = ("wandb", "tensorboard", "trackio", "mlflow")
NO_BUCKET = "none"
"""As ``bucket``: the environment has none, and results come home over SSH."""
TIERS = ("SECURE", "COMMUNITY", "ALL")
TIER = "SECURE"
"""RunPod's class of machines unless another is asked for."""
BUCKET_NAME = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
"""Every store's buckets are called like this, RunPod's volumes too."""
USER_NAME = r"[A-Za-z0-9]+([ ._-][A-Za-z0-9]+)*"
"""Of this a key is made that is read back: what a key cannot hold must not vanish without a word."""
MOST_PODS = 100
"""Of one stack: its up and its destroy then take minutes; an account that may spend more has several stacks."""
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = rf"env:{_VARIABLE}"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])/(tcp|http)"
OF_OURS = ("PULUMI_", "TRAINYARD_")
"""How variables begin that tell our own processes something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """The settings of an environment, typed, defaults filled in. ``cloud`` and ``store`` are what holds, not only what was said."""

    cloud: str = setting(
        "where pods are rented", "", unset="the cloud of the stack's name", choices=CloudNames(), travels=True,
        readers="clouds doctor program rehearsal runs stacks",
    )  # fmt: skip
    gpu: tuple[str, ...] = setting(
        "GPUs in order of preference; `auto`: every type with the memory that a run needs, the cheapest finish first", (),
        unset="a pod without GPU", travels=True, readers="program rehearsal runs",
    )  # fmt: skip
    gpu_count: int = setting("GPUs of a pod", 1, least=1, travels=True, readers="program rehearsal runs")
    image: str | None = setting(
        "container image of the pod", unset="the cloud's own", travels=True, some_clouds=True, readers="doctor program rehearsal"
    )
    template: str | None = setting(
        "template of the cloud, instead of an image; at Replicate the version that runs (`owner/name:id`)", travels=True, some_clouds=True,
        readers="doctor program rehearsal runs",
    )  # fmt: skip
    destination: str | None = setting(
        "model at Replicate that a training is pushed to", unset="no training but a prediction, 30 minutes at most", travels=True,
        some_clouds=True, pattern=r"[\w.-]+/[\w.-]+", looks_like="you/trained", readers="program runs",
    )  # fmt: skip
    image_gb: float | None = setting(
        "size of the image; above 16 GB it gets longer to arrive", unit="GB", least=0, travels=True, some_clouds=True,
        readers="program runs",
    )  # fmt: skip
    registry: str | Encrypted | None = setting(  # noqa: RUF009 - a field, as the others
        "the login of a private image's registry: at RunPod its id there, elsewhere the login itself (`-u NAME -p TOKEN HOST`)",
        travels=True, some_clouds=True, readers="program runs",
    )  # fmt: skip
    disk_gb: int = setting("disk of the pod", 100, unit="GB", least=1, travels=True, readers="program runs")
    volume: str | None = setting(
        "network volume that the pod mounts", travels=True, some_clouds=True, readers="doctor program rehearsal runs",
    )  # fmt: skip
    cache: str = setting(
        "a network volume of ours for what runs download: `auto` makes or takes one with the first run, and it costs money until "
        "`invoke cache.clean`", "none", choices=CACHES, some_clouds=True, readers="runs",
    )  # fmt: skip
    cache_gb: float = setting(
        "its least size", 0.0, unset="what the bases of its runs need", unit="GB", least=0, some_clouds=True, readers="runs",
    )  # fmt: skip
    ports: tuple[str, ...] = setting(
        "ports to open", ("22/tcp",), pattern=_PORT, looks_like="8888/http", travels=True, readers="program",
    )  # fmt: skip
    regions: tuple[str, ...] = setting(
        "data centers, countries or continents", (), unset="any", travels=True, some_clouds=True, readers="program rehearsal runs",
    )  # fmt: skip
    tier: str | None = setting(
        "class of machines", unset=f"{TIER}; at Vast.ai COMMUNITY", choices=TIERS, travels=True, some_clouds=True, readers="program runs"
    )
    spot: bool = setting("rent what may be taken away", False, travels=True, some_clouds=True, readers="program runs")
    max_price: float | None = setting(
        "above which nothing is rented", unit="dollars an hour", least=0, travels=True, readers="program runs"
    )
    min_cuda: str | None = setting(
        "least CUDA version of the host's driver", unset="what the recipe needs", pattern=r"\d+(\.\d+)?", looks_like="13.0",
        travels=True, some_clouds=True, readers="program runs",
    )  # fmt: skip
    min_vram_gb: float | None = setting(
        "least memory of each GPU", unset="what the recipe needs", unit="GB", least=0, travels=True, readers="program runs",
    )  # fmt: skip
    reliability: float | None = setting(
        "least reliability of a host, as the marketplace rates it", unset="0.95", least=0, most=1, travels=True, some_clouds=True,
        readers="program runs",
    )  # fmt: skip
    inet_down: float | None = setting(
        "least speed at which a host downloads", unset="100", unit="Mbit/s", least=0, travels=True, some_clouds=True,
        readers="program runs",
    )  # fmt: skip
    only_offers: tuple[str, ...] | None = setting("offers that may be taken, by id", unset="any", travels=True, readers="program runs")
    avoid_offers: tuple[str, ...] = setting("offers that are not taken, by their ids", (), travels=True, readers="program runs")
    pod_env: Mapping[str, str | Encrypted] | Encrypted = setting(  # noqa: RUF009
        "variables of the container, no secrets", {}, pattern=_VARIABLE, looks_like="NAME", travels=True, readers="program runs",
    )  # fmt: skip
    pod_secrets: tuple[str, ...] = setting(
        "variables of yours that the job gets, like HF_TOKEN", (), pattern=_VARIABLE, looks_like="NAME", readers="runs",
    )  # fmt: skip
    pod_store: str = setting(
        "keys of the bucket that the job gets, which end with its lease: to read below `pod_store_prefix`; `attempt`: also to write below "
        "`jobs/<user>/<run>/<n>/`", "none", choices=POD_STORES, readers="runs",
    )  # fmt: skip
    pod_store_prefix: str = setting(
        "below which the job may read", "data/", pattern=r"(?!/)[\s\S]*/", looks_like="data/", readers="runs",
    )  # fmt: skip
    store_role: str | None = setting(
        "ARN of the role that `pod_store` assumes by STS", pattern=r"arn:\S{16,}", looks_like="arn:aws:iam::123456789012:role/job",
        readers="runs",
    )  # fmt: skip
    i_know_that_pods_can_steal_my_store_keys: bool = setting(
        "`pod_store` gives the job your own keys of the store, which do not end", False, readers="runs"
    )
    hours: float = setting(
        "length of the lease; declared pods (`pods`) must be given it", 2.0, unit="hours", above=0, most=24 * 31, readers="program runs",
    )  # fmt: skip
    heartbeat_minutes: float = setting(
        "silence after which an idle pod of a run ends; 0: for ever", 30.0, unit="minutes", least=0, travels=True, readers="program"
    )
    idle_minutes: float = setting(
        "without job and SSH session, after which a pod ends; 0: never", 0.0, unit="minutes", least=0, travels=True, readers="program"
    )
    stall_minutes: float = setting(
        "in which a job wrote nothing below its folder and its outputs and no GPU was busy, after which it is stopped; "
        "silent work of CPUs alone is no sign of life; 0: never",
        0.0,
        unit="minutes",
        least=0,
        travels=True,
        readers="program",
    )
    keep_on_failure: str | None = setting(
        "how long the pod of a training that failed stays for a look, within its lease, at its price", unset="not at all",
        pattern=r"[1-9][0-9]{0,3}[mh]", looks_like="30m", readers="runs",
    )  # fmt: skip
    commit_alone_minutes: float = setting(
        "silence after which a pod commits the result alone and ends; 0: never", 5.0, unit="minutes", least=0, readers="doctor runs"
    )
    rescue_minutes: float = setting("from stop to end of the lease", 30.0, unit="minutes", least=0, travels=True, readers="program runs")
    login: str | None = setting(
        "login node of the cluster: a host of your ssh_config, or user@address", travels=True, some_clouds=True,
        pattern=r"[A-Za-z0-9][\w.@:%-]*", looks_like="me@login.cluster.example", readers="clouds program runs",
    )  # fmt: skip
    partition: str | None = setting(
        "Slurm's `--partition`", unset="the cluster's default", travels=True, some_clouds=True, readers="program runs"
    )
    account: str | None = setting("Slurm's `--account`", travels=True, some_clouds=True, readers="program runs")
    qos: str | None = setting("Slurm's `--qos`", travels=True, some_clouds=True, readers="program runs")
    gres: str | None = setting(
        "Slurm's `--gres` of each node, as it stands", unset="made of `gpu` and `gpu_count`", travels=True, some_clouds=True,
        readers="program runs",
    )  # fmt: skip
    nodes: int = setting(
        "machines that train one model: Slurm's `--nodes`; on `local` so many pods, each under a lease of its own", 1,
        least=1, travels=True, some_clouds=True, readers="program runs",
    )  # fmt: skip
    sbatch: tuple[str, ...] = setting(
        "more options of sbatch, each as one text", (), pattern=r"-\S[^\n]*", looks_like="--cpus-per-task=8", travels=True,
        some_clouds=True, readers="program runs",
    )  # fmt: skip
    modules: tuple[str, ...] = setting(
        "modules that the job loads", (), pattern=r"[\w.+/@-]+", looks_like="cuda/12.8", travels=True, some_clouds=True,
        readers="program runs",
    )  # fmt: skip
    container: str | None = setting(
        "image that the job runs in: one of Apptainer's (a path or docker://...), or a container of enroot's (*.sqsh)",
        travels=True, some_clouds=True, readers="program runs",
    )  # fmt: skip
    workspace: str = setting(
        "folder of the cluster's shared file system, below the home folder or absolute, in which each job has one", "trainyard",
        pattern=r"[^\n]+", looks_like="/scratch/me", travels=True, some_clouds=True, readers="program runs",
    )  # fmt: skip
    queue_hours: float = setting(
        "how long a job may wait for its nodes", 24.0, unit="hours", above=0, most=24 * 30, travels=True, some_clouds=True,
        readers="program runs",
    )  # fmt: skip
    internet: str = setting(
        "which machines of the cluster reach the bucket and the web: `nodes`, or its login node alone (`login`), which then sends and "
        "fetches the files", "nodes", choices=("nodes", "login"), travels=True, some_clouds=True, readers="program runs",
    )  # fmt: skip
    budget: float | None = setting("after which a run is stopped and saved", unit="dollars", above=0, readers="program runs")
    resume: int = setting("times that a run whose pod was lost is resumed by itself", 0, least=0, most=100, readers="runs")
    limit_day: float | None = setting("what all runs of a day may cost", unit="dollars", least=0, readers="runs")
    limit_week: float | None = setting("the same for 7 days", unit="dollars", least=0, readers="runs")
    limit_month: float | None = setting("the same for 30 days", unit="dollars", least=0, readers="runs")
    limit_action: str = setting("what a limit does", "block", choices=LIMIT_ACTIONS, readers="runs")
    limits: tuple[Mapping[str, object], ...] = setting(
        "more limits: `amount` dollars, `per` run, day, week or month, `of` all, stack or user, `action` block or warn", (), readers="runs"
    )
    queue_at_once: int = setting("runs of the queue at work at once on the stack; 0: none is begun", 5, least=0, readers="runs")
    queue_per_user: int = setting("the same, of each user", 2, least=1, readers="runs")
    approve: tuple[Mapping[str, object], ...] = setting(
        "runs of the queue that wait until a person approves: rules of cost, users, gpus", (), readers="runs stacks"
    )
    notify: tuple[str, ...] = setting(
        "whom notices about runs go to: variables that hold the addresses, which are secrets, like `env:SLACK_URL`", (),
        pattern=_REFERENCE, looks_like="env:NAME", readers="runs",
    )  # fmt: skip
    trackers: tuple[str, ...] = setting(
        "where the curves of runs go, told by this machine: wandb, tensorboard, trackio, mlflow (docs/trackers.md)", (),
        pattern="|".join(TRACKERS), looks_like=" or ".join(TRACKERS), readers="runs",
    )  # fmt: skip
    tracker_project: str = setting(
        "the project, or MLflow's experiment, that they are shown in", "trainyard", pattern=r"[A-Za-z0-9][\w .-]{0,99}",
        looks_like="my-models", readers="runs",
    )  # fmt: skip
    boot_accepted_minutes: float = setting(
        "how long a pod may take to be accepted", 5.0, unit="minutes", least=0, travels=True, readers="program runs"
    )
    boot_image_minutes: float | None = setting(
        "how long its image may take to arrive", unset="10, and a half for each GB of `image_gb` above 16", unit="minutes", least=0,
        travels=True, readers="program runs",
    )  # fmt: skip
    boot_ssh_minutes: float = setting("how long its SSH may take", 10.0, unit="minutes", least=0, travels=True, readers="program runs")
    upload_consent: str = setting("whether your data may leave this machine", "ask", choices=CONSENTS, readers="runs")
    bucket: str | None = setting(
        f"bucket of results; {NO_BUCKET}: they come home over SSH, where its cloud has it", unset="one made for the environment",
        pattern=BUCKET_NAME, looks_like="my-results-1", readers="doctor program rehearsal runs stacks",
    )  # fmt: skip
    store: str | None = setting(
        "which store holds the bucket", unset="the one whose keys are set", choices=STORES, readers="doctor program rehearsal runs stacks"
    )
    keep_checkpoints: int = setting(
        "complete checkpoints of a run that are kept in its bucket while it trains, the newest; 0: none", 1, least=0, readers="runs",
    )  # fmt: skip
    checkpoint_minutes: float = setting(
        "from one such checkpoint to the next, and from the start to the first", 10.0, unit="minutes", least=0, readers="runs",
    )  # fmt: skip
    hosts: tuple[Mapping[str, object], ...] = setting(
        "machines of one's own: names of ssh_config, or blocks with `name` and what ssh_config does not say (docs/clouds/ssh.md)", (),
        short="name", some_clouds=True, readers="clouds",
    )  # fmt: skip
    deliver: str | None = setting(
        "where the result goes after a run, in the background: local, local:DIR or hub:OWNER/REPO", unset="nowhere",
        pattern=r"local(:.+)?|hub:[A-Za-z0-9._-]+/[A-Za-z0-9._-]+", looks_like="local:~/models or hub:you/model", readers="runs",
    )  # fmt: skip
    lifecycle: tuple[Mapping[str, object], ...] = setting("rules of the bucket: prefix, expire_days ...", (), readers="program runs stacks")
    ssh_key_file: str | None = setting(
        "your own private SSH key; its `.pub` lies beside it", unset="one made for the stack", pattern=r"[/~].*",
        looks_like="~/.ssh/id_ed25519", readers="program runs stacks",
    )  # fmt: skip
    env_id: str | None = setting(
        "id of the environment, 8 hex digits", unset="one made for stack and user", pattern="[0-9a-f]{8}",
        looks_like="a0533aa1", readers="program runs",
    )  # fmt: skip
    pods: int = setting("pods of the environment itself", 0, least=0, most=MOST_PODS, readers="program runs")
    user: str | None = setting(
        "who starts runs; in keys in small letters, with '-' for any other sign", pattern=USER_NAME, looks_like="anna-berg",
        unset="the login name; for root the one in git's user.email", readers="runs",
    )  # fmt: skip
    gitops_user: str = setting(
        "whose the runs are that `gitops.sync` starts", "gitops", pattern=USER_NAME, looks_like="gitops", readers="runs",
    )  # fmt: skip
    engine: str = setting("what executes the program", "auto", choices=ENGINES, travels=True, readers="stacks")
    explicit: frozenset[str] = frozenset()
    """Names of those that a person has set."""

    @property
    def pod_env_names(self) -> list[str]:
        """Names of the container's variables, as far as they are not encrypted together with their values."""
        return [] if isinstance(self.pod_env, Encrypted) else sorted(self.pod_env)

    @property
    def has_bucket(self) -> bool:
        """Tell whether results have a bucket to go to, where a store is to be had."""
        return self.bucket != NO_BUCKET


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKeys:
    """What a run's own stack is told beside the settings that travel there; runs/ writes it, the program reads it."""

    run: str = setting("the attempt: user/label/number", "", readers="program")
    fence_id: str = setting("id of the environment's fence", "", readers="program")
    ssh_public_key: str = setting("public key that may log in", "", readers="program")
    ssh_key_file: str = setting("where its private key lies", "", readers="program")
    host_key_seed: str = setting("seed of the pod's host key, encrypted", "", readers="program")
    container_bundle: str | None = setting("sha256 of the bundle that the container of a cloud without SSH is made of", readers="program")
    container_secrets: str | None = setting("what that container may know and nobody else, encrypted", readers="program")
    fence_bucket: str | None = setting("bucket that tells whether the environment is closed", readers="program")
    fence_store: str | None = setting("its store", readers="program")


RUN_TAKES = ("hours", "budget")
"""Settings that a run's stack has besides those that travel: what was asked for this run."""


SETTINGS = read_table(StackSettings)
"""Every key that an environment's settings may have."""
RUN_SETTINGS = {
    **{name: setting for name, setting in SETTINGS.items() if setting.travels or name in RUN_TAKES}, **read_table(RunKeys),
}  # fmt: skip
"""Every key that the settings of a run's own stack may have."""
DEFAULTS = StackSettings()
"""What holds where nothing is set."""


def build(values: Mapping[str, object], stack: str) -> StackSettings:
    """Return typed values as settings: defaults filled in, the cloud and the store resolved."""
    cloud = values.get("cloud") or stack
    resolved: dict[str, Any] = {**values, "cloud": cloud, "store": values.get("store") or ("local" if cloud == "local" else None)}
    return StackSettings(**resolved, explicit=frozenset(values))


def known_to(name: str, cloud: str) -> bool:
    """Tell whether a setting has a meaning for a cloud."""
    row = entry(cloud)
    return not SETTINGS[name].some_clouds or (row is not None and name in row.settings)


def clouds_that_know(name: str) -> tuple[str, ...]:
    """Return the clouds that a setting means something to."""
    return tuple(cloud for cloud in entries() if known_to(name, cloud))


def for_run(settings: StackSettings) -> dict[str, object]:
    """Return what of an environment's settings goes into the stack of a run: what is set, or was raised for it."""
    values = {name: getattr(settings, name) for name, setting in SETTINGS.items() if setting.travels}
    return {
        name: value
        for name, value in values.items()
        if value is not None and (name in settings.explicit or value != SETTINGS[name].default)
    }
