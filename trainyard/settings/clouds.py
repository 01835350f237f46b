"""The one table of clouds: a row each, data only. Whatever else has to know of clouds is made from it.

To add a cloud:

1. Its row here. From it come: `open_cloud`, the names that ``trainyard:cloud`` takes, the variables of its keys (kept from
   pods and from other clouds' engines), which of the settings that not every cloud has a stack may say, the editor's schema,
   docs/settings.md, `doctor`, `init`, `rehearse`.
2. Its folder ``trainyard/clouds/<name>/`` with the function that ``opener`` names:
   ``def open_<name>(env: Mapping[str, str], places: Places) -> Cloud``. It makes no request, and has its key of
   clouds/keys.account_keys(), which raises for one that is not set. It is imported when a stack of that cloud is opened, and not
   before; what it needs of an ``extra`` may be missing.
3. ``Pulumi.<name>.yaml``, from which `init` gives a repository its stack, and the page ``docs/clouds/<name>.md``.
4. Its emulator, named by ``emulator``, and its line in the contract that every cloud passes (tests/clouds/).
5. ``python -m trainyard.settings.page`` writes docs/settings.md and the schema anew.

A package of a user's adds a cloud without any of this: an entry point of the group ``trainyard.clouds`` names its row
(docs/clouds.md shows a whole one).

A setting that no cloud has had yet is a field of StackSettings with ``some_clouds=True``; the rows name who reads it.
Loads the standard library only, and imports nothing of a cloud.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import overload

LONGEST_LOGICAL_NAME = 40
"""Characters of what a pod is called in a program that its name on a cloud has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEntry:
    """One cloud, as data."""

    name: str
    """What a stack's settings call it, and its folder."""
    title: str
    """What people call it."""
    opener: str
    """``module:function`` that takes (env, places) and returns its Cloud."""
    rented: bool = True
    """Its machines are somebody else's and cost money by the time."""
    ssh: bool = True
    """Pods have an sshd of their own; False: the run is the container's command."""
    starts: bool = True
    """A create request starts the watchdog and brings the host key; False: both are seen to at the first contact over SSH."""
    direct: bool = True
    """This machine dials its pods' sshd itself; False: another machine or a command leads there, which Pulumi's remote commands cannot."""
    keys: tuple[str, ...] = ()
    """Variables with the secrets that open the account, all of them needed."""
    key_aliases: tuple[str, ...] = ()
    """Other names that the first key may have. Like ``keys`` they never reach a pod."""
    more: tuple[str, ...] = ()
    """What else may be set and is no secret: other addresses of its API, seconds until a create counts as answered or absent."""
    pod_variables: tuple[str, ...] = ()
    """What the cloud itself tells a pod, as far as anything here reads it."""
    key_page: str = ""
    """Where a key is made, in words: ``RunPod's console (Settings, API keys)``."""
    settings: tuple[str, ...] = ()
    """Settings of a stack that it reads beside those that all clouds read (``some_clouds`` in settings/table.py)."""
    options: tuple[str, ...] = ()
    """Those of them that mean something to it alone: they are passed on to it by their names, as texts (OfferQuery, PodSpec)."""
    needs: tuple[str, ...] = ()
    """Settings without which there is nothing to ask it: it has no account, and a stack says where it is."""
    unmade: tuple[tuple[str, str], ...] = ()
    """Settings whose shipped value stands for what a person has to make first, with the ending of such a value."""
    machines: bool = False
    """It rents machines with an operating system: settings of containers mean nothing there, and that is said."""
    root: bool = True
    """Jobs may be root's, who can install packages of the distribution."""
    self_terminate: bool = False
    """A pod can end itself, with a key of its own or without any. Where not, the reaper, a worker or a schedule keeps the lease's end."""
    deadline: bool = False
    """The cloud itself ends a pod at its time."""
    groups: bool = False
    """Its pods reach each other: several can train one model (`nodes`), each under a lease of its own."""
    change_markers: bool = False
    """Stop and end of a pod that runs can be moved (`invoke extend`)."""
    bill: bool = False
    """It tells what was billed for one pod."""
    logical_name: int = LONGEST_LOGICAL_NAME
    """Most characters of what a pod is called in a program: where a cloud's list tells a short name only, a longer one is shortened."""
    emulator: str = ""
    """``module:NAME`` of the EmulatedCloud that plays it (trainyard/rehearsal/kit); empty: `rehearse` knows none."""
    service: str = ""
    """``module:NAME`` of the OwnService: a cloud whose own programs `rehearse` runs here needs no emulator."""
    request_file: str = ""
    """What `render` calls the file of its create request; its ending is its form (clouds/rendering.py). Empty: it has none to be read."""
    request_edits: tuple[tuple[str, str], ...] = ()
    """Fields of that file which say what a setting says, ``("mounts.network.0.volumeId", "volume")``; ``*``: any name there."""
    extra: str = ""
    """Extra of the package without which its opener cannot be imported: ``pip install 'trainyard[EXTRA]'``."""


_SLURM = ("login", "partition", "account", "qos", "gres", "nodes", "sbatch", "modules", "container", "workspace", "queue_hours", "internet")
_IONET = ("IOCLOUD_API_URL", "IOCLOUD_SETTLE_SECONDS", "IOCLOUD_POST_SECONDS")
NO_VERSION = "0" * 64
"""The id of a model's version at Replicate in the settings that Trainyard ships: none has it."""
IMAGE_SETTINGS = ("image", "image_gb", "registry")
"""Of clouds that start a container of the user's choice."""


def _edits(words: str) -> tuple[tuple[str, str], ...]:
    """Return what ``field=setting`` words say."""
    return tuple((path, setting) for path, _, setting in (word.partition("=") for word in words.split()))


_RUNPOD_EDITS = _edits(
    "image=image templateId=template gpu.id=gpu gpu.count=gpu_count gpu.minCudaVersion=min_cuda cloud=tier dataCenterIds=regions "
    "mounts.persistent.size=disk_gb mounts.network.0.volumeId=volume ports=ports env.*=pod_env imageName=image gpuTypeId=gpu "
    "gpuCount=gpu_count cloudType=tier dataCenterId=regions volumeInGb=disk_gb networkVolumeId=volume"
)  # of REST, then of GraphQL, which spot pods have
_VAST_EDITS = (
    *_edits("gpu_type=gpu num_gpus=gpu_count price_max=max_price regions=regions spot=spot request.image=image request.disk=disk_gb"),
    ("request.env.-p *", "ports"), ("request.env.*", "pod_env"),
)  # fmt: skip
_LAMBDA_EDITS = _edits("region_name=regions instance_type_name=gpu file_system_mounts.0.file_system_id=volume")
_PRIME_EDITS = _edits("pod.gpuType=gpu pod.gpuCount=gpu_count pod.customTemplateId=template pod.dataCenterId=regions pod.envVars.*=pod_env")
_IONET_EDITS = _edits(
    "registry_config.image_url=image gpus_per_container=gpu_count container_config.env_variables.*=pod_env"
)  # fmt: skip
_JARVIS_EDITS = _edits("gpu_type=gpu num_gpus=gpu_count hdd=disk_gb region=regions is_spot=spot template=template")
_MODAL_EDITS = _edits("IMAGE=image GPU=gpu GPU_COUNT=gpu_count ENV.*=pod_env")
_SLURM_EDITS = _edits("--partition=partition --account=account --qos=qos --gres=gres --nodes=nodes")

BUILT_IN: tuple[CloudEntry, ...] = (
    CloudEntry(
        name="local", title="this machine", opener="trainyard.clouds.local:open_local", rented=False, settings=("volume", "nodes"),
        groups=True, self_terminate=True, deadline=True, change_markers=True,
    ),
    CloudEntry(
        name="runpod", title="RunPod", opener="trainyard.clouds.runpod:open_runpod",
        keys=("RUNPOD_API_KEY",), key_page="RunPod's console (Settings, API keys)",
        more=("RUNPOD_API_URL", "RUNPOD_GRAPHQL_URL", "RUNPOD_API_BASE_URL", "RUNPOD_POST_SECONDS", "RUNPOD_SETTLE_SECONDS"),
        pod_variables=("RUNPOD_POD_ID", "RUNPOD_POD_HOSTNAME", "RUNPOD_PUBLIC_IP", "RUNPOD_DC_ID", "RUNPOD_GPU_COUNT"),
        settings=(*IMAGE_SETTINGS, "template", "volume", "cache", "cache_gb", "regions", "tier", "spot", "min_cuda"),
        self_terminate=True, bill=True, emulator="trainyard.rehearsal.runpod:RUNPOD",
        request_file="runpod_request.json", request_edits=_RUNPOD_EDITS,
    ),
    CloudEntry(
        name="vast", title="Vast.ai", opener="trainyard.clouds.vast:open_vast",
        keys=("VAST_API_KEY",), key_page="Vast.ai's console (Keys)",
        more=("VAST_URL", "VAST_POST_SECONDS", "VAST_SETTLE_SECONDS", "VAST_HASTE"),
        pod_variables=("CONTAINER_ID", "VAST_CONTAINERLABEL", "PUBLIC_IPADDR", "GPU_COUNT", "TRAINYARD_START", "TRAINYARD_POD_NAME"),
        settings=(*IMAGE_SETTINGS, "regions", "tier", "spot", "min_cuda", "reliability", "inet_down"),
        self_terminate=True, change_markers=True, bill=True, emulator="trainyard.rehearsal.vast:VAST",
        request_file="vast_job.json", request_edits=_VAST_EDITS,
    ),
    CloudEntry(
        name="lambda", title="Lambda Cloud", opener="trainyard.clouds.lambdacloud:open_lambda",
        keys=("LAMBDA_API_KEY",), key_page="Lambda's dashboard (API keys)",
        more=("LAMBDA_API_URL", "LAMBDA_POST_SECONDS", "LAMBDA_SETTLE_SECONDS"),
        settings=("volume", "cache", "cache_gb", "regions"), machines=True,
        emulator="trainyard.rehearsal.lambdacloud:LAMBDA", request_file="lambda_request.json", request_edits=_LAMBDA_EDITS,
    ),
    CloudEntry(
        name="prime", title="Prime Intellect", opener="trainyard.clouds.prime:open_prime",
        keys=("PRIME_API_KEY",), key_page="Prime Intellect's dashboard (Settings, API keys)",
        more=("PRIME_TEAM_ID", "PRIME_API_BASE_URL", "PRIME_BASE_URL", "PRIME_POST_SECONDS", "PRIME_SETTLE_SECONDS"),
        settings=("template", "regions", "tier", "spot"), bill=True, starts=False, machines=True,
        emulator="trainyard.rehearsal.prime:PRIME", request_file="prime_request.json", request_edits=_PRIME_EDITS,
    ),
    CloudEntry(
        name="ionet", title="io.net", opener="trainyard.clouds.ionet:open_ionet",
        keys=("IOCLOUD_API_KEY",), key_page="io.net's console (API keys, project io-cloud)", more=_IONET,
        settings=(*IMAGE_SETTINGS, "regions"), ssh=False, change_markers=True, emulator="trainyard.rehearsal.ionet:CONTAINERS",
        request_file="caas_deployment.json", request_edits=_IONET_EDITS,
    ),
    CloudEntry(
        name="ionet-vm", title="io.net's machines", opener="trainyard.clouds.ionet:open_ionet_vm",
        keys=("IOCLOUD_API_KEY",), key_page="io.net's console (API keys, project io-cloud)", more=_IONET,
        settings=("regions",), starts=False, machines=True, emulator="trainyard.rehearsal.ionet:MACHINES",
        request_file="ionet-vm_request.json", request_edits=_edits("gpus_per_vm=gpu_count"),
    ),
    CloudEntry(
        name="jarvislabs", title="JarvisLabs", opener="trainyard.clouds.jarvislabs:open_jarvislabs",
        keys=("JL_API_KEY",), key_aliases=("JARVISLABS_API_KEY",), key_page="JarvisLabs' dashboard (API keys)",
        more=("JARVISLABS_API_URL", "JARVISLABS_POST_SECONDS", "JARVISLABS_SETTLE_SECONDS"),
        settings=("template", "regions", "spot"), starts=False, machines=True, logical_name=5,
        emulator="trainyard.rehearsal.jarvislabs:JARVISLABS", request_file="jarvis_config.json", request_edits=_JARVIS_EDITS,
    ),
    CloudEntry(
        name="modal", title="Modal", opener="trainyard.clouds.modal.cloud:open_modal", ssh=False,
        keys=("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"), key_page="Modal's settings (API tokens)",
        more=("MODAL_SERVER_URL", "MODAL_ENVIRONMENT", "MODAL_PRICES", "MODAL_POST_SECONDS", "MODAL_SETTLE_SECONDS"),
        settings=IMAGE_SETTINGS, self_terminate=True, deadline=True, emulator="trainyard.rehearsal.modal:MODAL", extra="modal",
        request_file="modal_app.py", request_edits=_MODAL_EDITS,
    ),
    CloudEntry(
        name="replicate", title="Replicate", opener="trainyard.clouds.replicate:open_replicate", ssh=False,
        keys=("REPLICATE_API_TOKEN",), key_page="Replicate's account settings (API tokens)",
        more=(
            "REPLICATE_BASE_URL", "REPLICATE_PRICES", "REPLICATE_PREDICTION_MINUTES", "REPLICATE_POST_SECONDS", "REPLICATE_SETTLE_SECONDS",
        ),
        settings=("template", "destination", "image_gb"), options=("template", "destination"), unmade=(("template", NO_VERSION),),
        self_terminate=True, emulator="trainyard.rehearsal.replicate:REPLICATE", request_file="replicate_job.json",
        request_edits=_edits("destination=destination version=template input.env.*=pod_env"),
    ),
    CloudEntry(
        name="ssh", title="machines of one's own", opener="trainyard.clouds.ssh:open_ssh", rented=False,
        more=("TRAINYARD_SSH_REHEARSAL",), settings=("hosts", "volume", "regions"), needs=("hosts",), service="trainyard.rehearsal.ssh:SSH",
        self_terminate=True, deadline=True, change_markers=True, direct=False,
    ),
    CloudEntry(
        name="slurm", title="Slurm", opener="trainyard.clouds.slurm:open_slurm", rented=False,
        settings=(*_SLURM, "volume"), options=_SLURM, needs=("login",), service="trainyard.rehearsal.slurm:SLURM",
        root=False, self_terminate=True, deadline=True, direct=False, request_file="slurm_job.sbatch", request_edits=_SLURM_EDITS,
    ),
)  # fmt: skip
"""In the order in which lists show them."""

ENTRY_POINTS = "trainyard.clouds"
"""Group of entry points by which an installed package adds clouds: each names one, and a CloudEntry."""


@dataclass(frozen=True, slots=True)
class CloudProblem:
    """A cloud of somebody's package that cannot be had."""

    name: str
    package: str
    why: str

    @property
    def words(self) -> str:
        """What a person must hear."""
        return f"the package {self.package} offers this cloud, and it cannot be had: {self.why}"

    @property
    def hint(self) -> str:
        """What to do about it."""
        return f"Mend the package, update it, or take it away: pip uninstall {self.package}"


class CloudNames(Sequence[str]):
    """The names of all clouds; packages are looked through only where a name is none of ours, or all are asked for."""

    def __contains__(self, name: object) -> bool:
        # One that cannot be had is a name all the same: who reads the settings as a whole says why it cannot.
        return isinstance(name, str) and (entry(name) is not None or problem_of(name) is not None)

    def __len__(self) -> int:
        return len(entries())

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return tuple(entries())[index]


def entries() -> Mapping[str, CloudEntry]:
    """Return every cloud by its name: ours, then those of other packages."""
    return {**_OURS, **_of_packages()[0]}


def added_clouds() -> tuple[CloudEntry, ...]:
    """Return the clouds of other packages."""
    return tuple(_of_packages()[0].values())


def problems() -> tuple[CloudProblem, ...]:
    """Return the clouds of other packages that cannot be had; they hinder no other cloud."""
    return _of_packages()[1]


def problem_of(name: str) -> CloudProblem | None:
    """Return why the cloud of this name cannot be had; None for any other name."""
    return next((problem for problem in problems() if problem.name == name), None)


def emulated() -> tuple[str, ...]:
    """Return the clouds that there is an emulator of."""
    return tuple(cloud.name for cloud in entries().values() if cloud.emulator)


def entry(name: str) -> CloudEntry | None:
    """Return a cloud's row; None for a name that no cloud has."""
    return _OURS.get(name) or _of_packages()[0].get(name)


_OURS = {cloud.name: cloud for cloud in BUILT_IN}


@cache
def _of_packages() -> tuple[Mapping[str, CloudEntry], tuple[CloudProblem, ...]]:
    from importlib.metadata import entry_points  # 25 ms, which no start with a cloud of ours waits for

    rows: dict[str, CloudEntry] = {}
    lost: list[CloudProblem] = []
    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else point.module
        try:
            row = point.load()
        except (Exception, SystemExit) as error:  # somebody else's code: whatever it raises, our clouds are there
            lost.append(CloudProblem(point.name, package, f"{type(error).__name__}: {error}"))
            continue
        if why := _unfit(point.name, row, rows):
            lost.append(CloudProblem(point.name, package, why))
        else:
            rows[row.name] = row
    return rows, tuple(lost)


def _unfit(name: str, row: object, others: Mapping[str, CloudEntry]) -> str | None:
    """Return what is wrong with a row that a package gives, None when nothing is."""
    if not isinstance(row, CloudEntry):
        return f"{row!r:.80} is no CloudEntry"
    if row.name != name:
        return f"its row is called '{row.name}'"
    return "there is a cloud of this name" if name in _OURS or name in others else None
