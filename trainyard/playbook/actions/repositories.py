"""git: a folder that is a checkout of a repository at a branch, a tag or a commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainyard.errors import UserError
from trainyard.playbook.actions.answers import script
from trainyard.playbook.schema import Arg, Schema
from trainyard.playbook.steps import Step
from trainyard.playbook.values import Variables

GIT = Schema(
    "git",
    (
        Arg("repo", required=True, aliases=("name",)), Arg("dest", "path", required=True), Arg("version"), Arg("depth", "int"),
        Arg("force", "bool"), Arg("update", "bool"), Arg("clone", "bool"), Arg("remote"), Arg("single_branch", "bool"),
        Arg("recursive", "bool"), Arg("refspec"), Arg("accept_newhostkey", "bool"), Arg("accept_hostkey", "bool"),
        Arg("key_file", "path", empty=True),
    ),
    again="writes", does="a checkout of a repository at a branch, a tag or a commit; local changes are kept unless 'force' says otherwise",
)  # fmt: skip


def git(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Clone, or move a checkout to the version."""
    flags = {"force": False, "update": True, "clone": True, "single_branch": False, "recursive": True}
    depth, version, remote = args.get("depth"), str(args.get("version", "HEAD")), str(args.get("remote", "origin"))
    for name, value in (("version", version), ("remote", remote), ("refspec", str(args.get("refspec", "")))):
        if value.startswith("-"):
            raise UserError(f"'{name}' of 'git' must not begin with a dash: '{value}'")
    return script(
        "git",
        {
            "repo": args["repo"], "dest": args["dest"], "version": version, "remote": remote, "depth": depth or "",
            "refspec": args.get("refspec"),
            **{name: bool(args.get(name, default)) for name, default in flags.items()}, "key_file": args.get("key_file"),
            "accept_new": bool(args.get("accept_newhostkey") or args.get("accept_hostkey")),
        },
        hidden=("repo",),
    )  # fmt: skip
