"""What is wrong with settings that are each right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainyard.secret import names_secret
from trainyard.settings.clouds import IMAGE_SETTINGS, CloudNames, entry, problem_of
from trainyard.settings.setting import Encrypted
from trainyard.settings.table import OF_OURS, SETTINGS, StackSettings, clouds_that_know, known_to
from trainyard.settings.variables import never_sent


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with settings that are each right; ``at``: the key whose place shows it."""

    name: str
    message: str
    at: str
    hint: str | None = None
    item: str = ""
    """The name below that key which is meant."""


def flaw(settings: StackSettings, stack: str) -> Flaw | None:
    """Return what is wrong with settings as a whole, None when nothing is."""
    row = entry(settings.cloud)
    if row is None:
        if lost := problem_of(settings.cloud):
            return Flaw("cloud", f"says '{lost.name}': {lost.words}", "cloud", lost.hint)
        return Flaw("cloud", f"is missing, and stack '{stack}' has no cloud's name", "cloud", f"Clouds: {', '.join(CloudNames())}.")
    if settings.image and settings.template:
        return Flaw("template", "and 'image' are given both: choose one", "template")
    if settings.pods and not row.ssh:
        return Flaw("pods", f"are machines to log in to, and those of cloud '{settings.cloud}' have no SSH", "pods", "Leave it out.")
    if settings.pods and "hours" not in settings.explicit:
        return Flaw("hours", "is missing: a declared pod needs the hours of its lease", "pods", "Add: trainyard:hours: 2")
    if settings.i_know_that_pods_can_steal_my_store_keys and settings.pod_store == "none":
        name = "i_know_that_pods_can_steal_my_store_keys"
        return Flaw(name, "gives a job no keys by itself", name, "Leave it out; or say what the job may do: pod_store: read.")
    if (secret := _secret_for_pods(settings)) is not None:
        return secret
    for name in SETTINGS:  # in the table's order: the same one is told each time
        if name in settings.explicit and getattr(settings, name) != SETTINGS[name].default and not known_to(name, settings.cloud):
            known = f"Leave it out; clouds that know it: {', '.join(clouds_that_know(name))}."
            row = entry(settings.cloud)
            machine = row is not None and row.machines and name in IMAGE_SETTINGS
            why = ", which rents machines, not containers: packages are installed there" if machine else ""
            return Flaw(name, f"means nothing to cloud '{settings.cloud}'{why}", name, known)
    return None


def _secret_for_pods(settings: StackSettings) -> Flaw | None:
    """Return what is wrong with the variables that pods get: a pod is somebody else's machine."""
    for name in settings.pod_secrets:
        if name in never_sent() or name.startswith(OF_OURS):
            says = "opens an account or a bucket" if name in never_sent() else "is of Trainyard or Pulumi"
            return Flaw("pod_secrets", f"names {name}, which {says}: it is never sent to a pod", "pod_secrets", "Leave it out.")
    keys = next((name for name in settings.pod_env_names if name in never_sent()), None)
    if keys is None:
        return None
    says = f"names {keys}, which opens an account or a bucket: it is never sent to a pod"
    return Flaw("pod_env", says, "pod_env", "Leave it out.", keys)


def clear_secret(settings: StackSettings) -> Flaw | None:
    """Return what is wrong with a secret among the plain variables of a pod, as its name tells; None where there is none.

    It is asked of what a person has written: who runs the program knows encrypted values in clear, too.
    """
    variables = settings.pod_env if isinstance(settings.pod_env, Mapping) else {}
    clear = (name for name, value in variables.items() if value and not isinstance(value, Encrypted))
    name = next((name for name in clear if name in settings.pod_secrets or names_secret(name)), None)
    if name is None:
        return None
    says = f"has {name} in clear: a cloud keeps such variables and shows them to whoever is in the account"
    hint = f"Take it out here; put its value into .env, and its name into the stack's settings: trainyard:pod_secrets: [{name}]"
    return Flaw("pod_env", says, "pod_env", hint, name)
