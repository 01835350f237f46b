"""s3: an object of a bucket to the host, a file of the host into a bucket, by a signed address: no key lies on the host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.actions.placement import OWNERSHIP, owned_by, plain_path
from trainyard.playbook.natives import Variables
from trainyard.playbook.places import Placement
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.steps import BucketObject, Step

S3 = Schema(
    "s3",
    (
        Arg("url"), Arg("bucket"), Arg("object", aliases=("key",)), Arg("mode", choices=("get", "put", "list"), required=True),
        Arg("dest", "path"), Arg("src", "path"), Arg("prefix"), Arg("overwrite", aliases=("force",)), Arg("sha256", "sha256"), Arg("store"),
        *OWNERSHIP[1:],
    ),
    one_of=(("url", "bucket"),),
    again="writes",
    does="an object of a bucket to the host, or a file of it into the bucket, proven by size and hash; no key of the store goes there",
)  # fmt: skip


def s3(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Bring an object to the host, or a file of the host into the bucket."""
    bucket, key = str(args.get("bucket", "")), str(args.get("object") or args.get("prefix") or "")
    if "url" in args:
        parts = re.fullmatch(r"s3://([^/]+)/?(.*)", str(args["url"]), re.DOTALL)
        if not parts or key:
            raise UserError(f"'s3': 'url' is s3://BUCKET/OBJECT, and stands for 'bucket' and 'object', not {args['url']!r}")
        bucket, key = parts[1], parts[2]
    mode = str(args["mode"])
    path = text_or_none(args, {"get": "dest", "put": "src"}.get(mode, ""))
    if mode != "list" and (not path or not key or key.endswith("/")):
        raise UserError(f"'s3': 'mode: {mode}' needs an object and '{'dest' if mode == 'get' else 'src'}', a file of the host")
    overwrite = {"true": "always", "false": "never", "yes": "always", "no": "never"}.get(
        written := str(args.get("overwrite", "different")).lower(), written
    )
    if overwrite not in ("always", "never", "different"):
        raise UserError(f"'s3': 'overwrite' is always, never or different, not '{overwrite}'")
    name = key.rpartition("/")[2]
    to = Placement(plain_path(path or "/"), owned_by({**args, "mode": None}), name=name, into=bool(path and path.endswith("/")))
    return BucketObject(mode, bucket, key.lstrip("/"), to, text_or_none(args, "store"), overwrite, text_or_none(args, "sha256"))
