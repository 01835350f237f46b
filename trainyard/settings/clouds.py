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

A setting that no cloud has had yet is a field of StackSettings with ``some_clouds=True``; the rows name who reads it.
Loads the standard library only, and imports nothing of a cloud.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
    self_terminate: bool = False
    """A pod can end itself, with a key of its own or without any. Where not, the reaper, a worker or a schedule keeps the lease's end."""
    deadline: bool = False
    """The cloud itself ends a pod at its time."""
    bill: bool = False
    """It tells what was billed for one pod."""
    emulator: str = ""
    """``module:NAME`` of the EmulatedCloud that plays it (trainyard/rehearsal/kit); empty: `rehearse` knows none."""
    extra: str = ""
    """Extra of the package without which its opener cannot be imported: ``pip install 'trainyard[EXTRA]'``."""


IMAGE_SETTINGS = ("image", "image_gb", "registry")
"""Of clouds that start a container of the user's choice."""

BUILT_IN: tuple[CloudEntry, ...] = (
    CloudEntry(
        name="local", title="this machine", opener="trainyard.clouds.local:open_local", rented=False, settings=("volume",),
        self_terminate=True, deadline=True,
    ),
    CloudEntry(
        name="runpod", title="RunPod", opener="trainyard.clouds.runpod:open_runpod",
        keys=("RUNPOD_API_KEY",), key_page="RunPod's console (Settings, API keys)",
        more=("RUNPOD_API_URL", "RUNPOD_GRAPHQL_URL", "RUNPOD_API_BASE_URL", "RUNPOD_POST_SECONDS", "RUNPOD_SETTLE_SECONDS"),
        pod_variables=("RUNPOD_POD_ID", "RUNPOD_POD_HOSTNAME", "RUNPOD_PUBLIC_IP", "RUNPOD_DC_ID", "RUNPOD_GPU_COUNT"),
        settings=(*IMAGE_SETTINGS, "template", "volume", "regions", "tier", "spot", "min_cuda"),
        self_terminate=True, bill=True, emulator="trainyard.rehearsal.runpod:RUNPOD",
    ),
    CloudEntry(
        name="vast", title="Vast.ai", opener="trainyard.clouds.vast:open_vast",
        keys=("VAST_API_KEY",), key_page="Vast.ai's console (Keys)",
        more=("VAST_URL", "VAST_POST_SECONDS", "VAST_SETTLE_SECONDS", "VAST_HASTE"),
        pod_variables=("CONTAINER_ID", "VAST_CONTAINERLABEL", "PUBLIC_IPADDR", "GPU_COUNT", "TRAINYARD_START", "TRAINYARD_POD_NAME"),
        settings=(*IMAGE_SETTINGS, "regions", "tier", "spot", "min_cuda", "reliability", "inet_down"),
        self_terminate=True, bill=True,
    ),
    CloudEntry(
        name="lambda", title="Lambda Cloud", opener="trainyard.clouds.lambdacloud:open_lambda",
        keys=("LAMBDA_API_KEY",), key_page="Lambda's dashboard (API keys)",
        more=("LAMBDA_API_URL", "LAMBDA_POST_SECONDS", "LAMBDA_SETTLE_SECONDS"), settings=("regions",),
    ),
    CloudEntry(
        name="prime", title="Prime Intellect", opener="trainyard.clouds.prime:open_prime",
        keys=("PRIME_API_KEY",), key_page="Prime Intellect's dashboard (Settings, API keys)",
        more=("PRIME_TEAM_ID", "PRIME_API_BASE_URL", "PRIME_BASE_URL", "PRIME_POST_SECONDS", "PRIME_SETTLE_SECONDS"),
        settings=("template", "regions", "tier", "spot"), bill=True,
    ),
)  # fmt: skip
"""In the order in which lists show them."""

OTHER_ACCOUNTS: Mapping[str, tuple[str, ...]] = {
    "jarvislabs": ("JARVISLABS_API_KEY", "JL_API_KEY"),
    "ionet": ("IOCLOUD_API_KEY",),
    "modal": ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"),
    "replicate": ("REPLICATE_API_TOKEN",),
}
"""Keys of accounts that nothing is rented from here: kept from pods and engines all the same. Who adds a row takes its line away."""


def entries() -> Mapping[str, CloudEntry]:
    """Return every cloud by its name."""
    return {entry.name: entry for entry in BUILT_IN}


def emulated() -> tuple[str, ...]:
    """Return the clouds that there is an emulator of."""
    return tuple(entry.name for entry in BUILT_IN if entry.emulator)


def entry(name: str) -> CloudEntry | None:
    """Return a cloud's row; None for a name that no cloud has."""
    return entries().get(name)
