"""assert, debug, set_fact: nothing happens on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Undefined

from trainyard.playbook.schema import Arg, Schema, text_or_none
from trainyard.playbook.steps import AssertAction, Say, SetFacts, Step
from trainyard.playbook.values import Condition, Variables, evaluate

ASSERT = Schema("assert", (Arg("that", "condition", required=True), Arg("fail_msg"), Arg("success_msg")), free="that")
DEBUG = Schema("debug", (Arg("msg", "any"), Arg("var")), free="msg", one_of=(("msg", "var"),))
SET_FACT = Schema("set_fact", open_=True)


def assert_(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Say which of the conditions do not hold."""
    that = args["that"]
    assert isinstance(that, Condition)
    failed = tuple(source for source, holds in zip(that.sources, that.each(variables), strict=True) if not holds)
    return AssertAction(failed, text_or_none(args, "fail_msg"), text_or_none(args, "success_msg"))


def debug(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Show a message, or a variable with its name."""
    if "var" not in args:
        return Say(args["msg"])
    name = str(args["var"])
    value = evaluate(name, variables)
    return Say({name: "not defined" if isinstance(value, Undefined) else value})


def set_fact(args: Mapping[str, object], folder: Path, variables: Variables) -> Step:
    """Keep values as variables of this host."""
    return SetFacts(dict(args))
