"""A record that another machine wrote, as a bucket or a pod has it: it is told of, and may be gone on with, but decides nothing here.

Whoever writes into the bucket, or owns the pod, could otherwise have a command run on the machine that comes back.
"""

from __future__ import annotations

import re
from dataclasses import replace

from trainyard.config import is_stack_name
from trainyard.runs.records.record import RunRecord, read_record
from trainyard.storage.manifest import ResultKey

_FORMS = {
    "pod_id": re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:%-]{0,190}"),
    "lease_id": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "fence_id": re.compile(r"[A-Za-z0-9_-]{1,64}"),
    "user": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}"),
    "host": re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}"),
}
"""What of a pod becomes part of a path, a request or a command line."""


def read_foreign(data: object, key: ResultKey | None = None) -> RunRecord:
    """Return the record that another machine has written; raises ValueError for one that is damaged, or not of the attempt ``key``.

    No command, key file or way through a machine that it names counts: the cloud says how its pod is reached.
    """
    record = read_record(data)
    named = ResultKey(record.user, record.label, record.attempt)  # names become folders and stacks
    if key is not None and named != key:
        raise ValueError(f"it is the record of {named}")
    if not is_stack_name(record.environment):
        raise ValueError(f"'environment' is {record.environment!r:.60}")
    for name, form in _FORMS.items():
        value = getattr(record.pod, name)
        if value is not None and not form.fullmatch(value):
            raise ValueError(f"'pod.{name}' is {value!r:.60}")
    record.pod = replace(record.pod, login_command=None, send_command=None, through=None, ssh_key_file=None)
    return record


def take_over(record: RunRecord) -> None:
    """Make it this machine's: places of the other machine are none here."""
    if record.result is not None and record.result.local_path is not None:
        record.result = replace(record.result, local_path=None, owed=False)
    if record.deliver is not None and record.deliver.startswith("local:"):
        record.deliver = "local"
