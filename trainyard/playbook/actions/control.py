"""assert, debug, set_fact: nothing happens on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Undefined

from trainyard.errors import UserError
from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.steps import AssertAction, Say, SetFacts, Step
from trainyard.playbook.values import Condition, Variables, evaluate

ASSERT = Schema(
    "assert", (Arg("that", "condition", required=True), Arg("fail_msg", aliases=("msg",)), Arg("success_msg"), Arg("quiet", "bool")),
    free="that", does="end in failure where a condition does not hold",
)  # fmt: skip
DEBUG = Schema(
    "debug", (Arg("msg", "any"), Arg("var"), Arg("verbosity", "int")), free="msg", does="show a message, or a variable with its name",
)  # fmt: skip
SET_FACT = Schema("set_fact", open_=True, does="keep values as variables of the host")


def assert_(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Say which of the conditions do not hold."""
    that = args["that"]
    assert isinstance(that, Condition)
    failed = tuple(source for source, holds in zip(that.sources, that.each(variables), strict=True) if not holds)
    return AssertAction(failed, text_or_none(args, "fail_msg"), text_or_none(args, "success_msg"))


def debug(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Show a message, or a variable with its name; nothing where the run is not as verbose as that needs."""
    if "msg" in args and "var" in args:
        raise UserError("'debug' takes one of: msg, var")
    if int(str(args.get("verbosity", 0))) > int(str(variables.get("ansible_verbosity", 0))):
        return Say(None, quiet=True)
    if "var" not in args:
        return Say(args.get("msg", "Hello world!"))
    name = str(args["var"])
    value = evaluate(name, variables)
    return Say({name: "not defined" if isinstance(value, Undefined) else value})


def set_fact(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Keep values as variables of this host; no run remembers those of another one, so ``cacheable`` says nothing."""
    return SetFacts({name: value for name, value in args.items() if name != "cacheable"})
