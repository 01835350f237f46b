"""What the blocks of those settings may say that are lists of blocks: rules of buckets, limits, rules of approval, hosts.

Loads the standard library only, as the table of settings does.
"""

from __future__ import annotations

from collections.abc import Mapping

from trainyard import sshlogin
from trainyard.reading import Shape

LIMIT_ACTIONS = ("block", "warn")
_DAYS = Shape(kind="whole", least=1)
RULE: Mapping[str, Shape] = {
    "id": Shape(kind="text", pattern=r"[a-z0-9][a-z0-9-]{0,99}", looks_like="old-logs"),
    "prefix": Shape(kind="text", pattern=r"(?!/)[\s\S]*", looks_like="the beginning of a key, without a leading '/'", empty=True),
    "expire_days": _DAYS, "noncurrent_days": _DAYS, "abort_uploads_days": _DAYS,
}  # fmt: skip
"""What a rule of ``lifecycle`` may say; stores count in days."""
RULE_ACTIONS = tuple(name for name, shape in RULE.items() if shape is _DAYS)
"""A rule says one of them at least."""
APPROVAL_RULE: Mapping[str, Shape] = {
    "cost": Shape(kind="number", least=0), "users": Shape(kind="texts"), "gpus": Shape(kind="texts"),
}  # fmt: skip
"""What a rule of ``approve`` may say, in dollars and names; it says one of them at least, and all that it says has to be so."""
LIMIT: Mapping[str, Shape] = {
    "amount": Shape(kind="number", least=0),
    "per": Shape(kind="text", choices=("run", "day", "week", "month")),
    "of": Shape(kind="text", choices=("all", "stack", "user")),
    "action": Shape(kind="text", choices=LIMIT_ACTIONS),
}
"""What a block of ``limits`` may say."""
LIMIT_NEEDS = ("amount", "per")
"""A limit says both of them."""
HOST: Mapping[str, Shape] = {
    "name": Shape(kind="text", pattern=sshlogin.NAME, looks_like="gpu1"),
    "address": Shape(kind="text", pattern=sshlogin.ADDRESS, looks_like="10.0.0.5"),
    "user": Shape(kind="text", pattern=sshlogin.USER, looks_like="anna"),
    "port": Shape(kind="whole", least=1, most=65535),
    "key_file": Shape(kind="text", pattern=sshlogin.PATH, looks_like="~/.ssh/id_ed25519"),
    "jump": Shape(kind="text", pattern=sshlogin.JUMP, looks_like="anna@gate:2222"),
    "ssh_config": Shape(kind="text", pattern=sshlogin.PATH, looks_like="~/work/ssh_config"),
    "accept_new_host_key": Shape(kind="flag"),
    "gpus": Shape(kind="texts", pattern="[0-9]{1,3}", looks_like="0"),
    "gpu": Shape(kind="text"),
    "gpu_count": Shape(kind="whole", least=1, most=64),
    "price": Shape(kind="number", least=0),
    "folder": Shape(kind="text", pattern=sshlogin.PATH, looks_like="~/.trainyard-pods"),
    "python": Shape(kind="text", pattern=r"[\w./~-]+", looks_like="/opt/conda/bin/python3"),
}
"""What a block of ``hosts`` may say; dollars an hour, indices of GPUs."""
HOST_NEEDS = ("name",)
BLOCKS: Mapping[str, Mapping[str, Shape]] = {"lifecycle": RULE, "limits": LIMIT, "approve": APPROVAL_RULE, "hosts": HOST}
"""What the blocks of those settings may say that are lists of them."""
