"""wait_for: a port that answers, a path that is there, a text in a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step, Wait
from trainyard.playbook.values import Variables

WAIT_FOR = Schema(
    "wait_for",
    (
        Arg("port", "int"), Arg("host"), Arg("path", "path"), Arg("regex"), Arg("state", choices=("present", "absent")),
        Arg("timeout", "number"), Arg("sleep", "number"),
    ),
    one_of=(("port", "path"),),
    needs={"regex": "path", "host": "port"},
)  # fmt: skip

# A port of this machine is looked up in the kernel's own table: no connection is made, no tool is needed.
_LISTENS = """\
there() {
  if [ "$host" = 127.0.0.1 ]; then
    grep -qi "^ *[0-9]*: [0-9A-F]*:$hex [0-9A-F]*:0000 0A " /proc/net/tcp /proc/net/tcp6 2>/dev/null
  elif command -v nc >/dev/null; then nc -z -w 3 "$host" "$port" </dev/null >/dev/null 2>&1
  elif command -v bash >/dev/null; then timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null
  else echo "neither nc nor bash to ask $host with" >&2; exit 3; fi
}
"""
_PATH = 'there() { [ -e "$path" ]; }\n'
_REGEX = 'there() { grep -qE -e "$regex" -- "$path" 2>/dev/null; }\n'
_LOOP = """\
stop=$(($(date +%s) + seconds))
while :; do
  there; found=$?
  [ "$wanted" = present ] && [ $found -eq 0 ] && exit 0
  [ "$wanted" = absent ] && [ $found -ne 0 ] && exit 0
  [ "$(date +%s)" -lt $stop ] || exit 1
  sleep "$pause"
done
"""


def wait_for(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Wait on the host itself until it is there (or gone)."""
    wanted = str(args.get("state", "present"))
    timeout = float(cast(float, args.get("timeout", 300)))
    values = {"wanted": wanted, "seconds": max(1, round(timeout)), "pause": args.get("sleep", 1)}
    gone = " to be gone" if wanted == "absent" else ""
    if "port" in args:
        port, host = cast(int, args["port"]), str(args.get("host", "127.0.0.1")).replace("localhost", "127.0.0.1")
        values |= {"host": host, "port": port, "hex": f"{port:04X}"}
        return Wait(_LISTENS + _LOOP, values, f"port {port} of {host}{gone}", timeout)
    values |= {"path": args["path"], "regex": args.get("regex", "")}
    if "regex" in args:
        return Wait(_REGEX + _LOOP, values, f"'{args['regex']}' in {args['path']}{gone}", timeout)
    return Wait(_PATH + _LOOP, values, f"{args['path']}{gone}", timeout)
