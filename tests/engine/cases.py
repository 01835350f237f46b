# ruff: noqa: E501 (a table: one case a line)
"""The conformance table: each row of the support and refuse tables, and each ordered pair of operations, as data.

A case is a list of steps on one stack. ``matrix.py`` runs all of them on both engines and compares state and
provider calls after each step; the suite runs them on the built-in engine and, where the CLI is, a sample on both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

Spec = list[dict[str, Any]]
Fault = tuple[str, str, str]


@dataclass(frozen=True)
class Step:
    """One run: a verb, the program from now on, faults of the provider, and what must be true afterwards."""

    verb: str
    spec: Spec | None = None
    faults: tuple[Fault, ...] = ()
    code: int = 0
    settings: str | None = None
    interrupt: str = ""  # the provider call at which a SIGINT comes
    state_differs: str = ""  # why the two engines may leave different states here
    code_differs: str = ""  # why one may say that it failed and the other not
    calls_differ: str = ""  # why they may call the provider differently


@dataclass(frozen=True)
class Case:
    """A named list of steps."""

    name: str
    steps: tuple[Step, ...]
    left: int | None = None  # how many things must be left in the cloud at the end


@dataclass(frozen=True)
class Refusal:
    """A program that is refused, and the words that must be in the message."""

    name: str
    spec: Spec
    words: str
    project: str = ""
    settings: str = ""
    line: bool = True
    late: Spec = field(default_factory=list)


def pod(name: str, opts: dict[str, Any] | None = None, **props: Any) -> dict[str, Any]:
    """Return a resource of a spec."""
    return {"name": name, "props": props, "opts": opts or {}}


def edit(spec: Spec, name: str, **props: Any) -> Spec:
    """Return the spec with other properties of one resource."""
    result: Spec = json.loads(json.dumps(spec))
    for item in result:
        if item["name"] == name:
            item.setdefault("props", {}).update(props)
    return result


def without(spec: Spec, *names: str) -> Spec:
    """Return the spec without some resources."""
    return [item for item in spec if item["name"] not in names]


def with_opts(spec: Spec, name: str, **opts: Any) -> Spec:
    """Return the spec with other options of one resource."""
    result: Spec = json.loads(json.dumps(spec))
    for item in result:
        if item["name"] == name:
            item.setdefault("opts", {}).update(opts)
    return result


SMALL: Spec = [pod("a", label="1"), pod("b", host="@a.ip", label="1"), {"kind": "export", "name": "ip", "value": "@b.ip"}]
BASE: Spec = [
    pod("lease"),
    pod(
        "pod",
        {"additional_secret_outputs": ["ip"], "custom_timeouts": {"create": "5m"}},
        gpu="H100",
        label="a",
        lease="@lease",
        token="!tok",
    ),
    {"kind": "box", "name": "box"},
    pod("inner", {"parent": "box"}, label="a", lease="@lease"),
    pod("leaf", {"parent": "box"}, nested={"a": [1, 2.5, True, {"x": {"$secret": "@inner.ip"}}]}),
    {"kind": "outputs", "name": "o", "of": "box", "props": {"ip": "@inner.ip", "pw": "@inner.password"}},
    {"kind": "provider", "name": "eu", "props": {"region": "eu-1"}},
    pod("eupod", {"provider": "eu"}, label="x"),
    pod("extra", {"deleted_with": "pod", "ignore_changes": ["zone"]}, host="@pod.ip", label="@pod.ip"),
    {"kind": "export", "name": "ip", "value": "@pod.ip"},
    {"kind": "export", "name": "n", "value": {"a": [1, 2]}},
    {"kind": "export", "name": "token", "value": "!s3cr3t"},
]
_AGAIN = "the CLI calls Delete again for a dependent that an interrupted replacement has deleted"
_MORE = "after a failed delete the CLI stops, the built-in engine goes on"
_DONE = "the CLI says success when the interrupt came while it deleted the last resource, though provider and stack stay in state"
_UNDER = "the CLI deletes what was replaced under a protected resource that lives in it"
_WITH = "the CLI skips the delete of what is deleted with a protected resource that stays"


def _updown(name: str, *specs: Spec) -> Case:
    """Return a case that ups each spec in turn, twice the last, and destroys."""
    steps = [Step("up", spec) for spec in specs]
    return Case(name, (*steps, Step("up", specs[-1]), Step("destroy")))


def _support() -> list[Case]:
    box: Spec = [{"kind": "box", "name": "box"}, pod("in", {"parent": "box"}, label="1")]
    pods = [pod("a", gpu="1"), pod("b", {"depends_on": ["a"]}, label="1")]
    deep: Spec = [
        {"kind": "box", "name": "outer"},
        {"kind": "box", "name": "mid", "opts": {"parent": "outer"}},
        pod("p", {"parent": "mid"}, label="1"),
    ]
    nested = [pod("a", {"ignore_changes": ["conf.x", "items[0]"]}, conf={"x": 1, "y": 1}, items=[1, 2])]
    roc = [pod("a", {"replace_on_changes": ["label"]}, label="1"), pod("b", host="@a.cloudName")]
    dbr = [pod("a", {"delete_before_replace": True}, zone="1"), pod("b", zone="@a.cloudName"), pod("c", host="@b.cloudName")]
    cbd = [pod("a", {"delete_before_replace": False}, gpu="1"), pod("b", host="@a.cloudName")]
    with_ = [pod("a", gpu="1"), pod("b", {"deleted_with": "a"}, label="1")]
    repl = [pod("a", gpu="1"), pod("b", {"replace_with": ["a"]}, label="1")]
    late = [pod("a", zone="1"), pod("b", {"replace_with": ["a"]}, label="1"), pod("c", {"deleted_with": "a"}, label="1")]
    prov: Spec = [{"kind": "provider", "name": "eu", "props": {"region": "eu-1"}}, pod("p", {"provider": "eu"}, label="1")]
    provs: Spec = [
        {"kind": "provider", "name": "eu", "props": {"region": "eu-1", "token": "!tok"}},
        {"kind": "box", "name": "box", "opts": {"providers": ["eu"]}},
        pod("p", {"parent": "box"}, label="1"),
    ]
    moved = [{"kind": "box", "name": "box"}, pod("in", {"aliases": [{"parent": ""}]}, label="1")]
    unboxed = [{"kind": "box", "name": "box"}, pod("in", {"aliases": [{"parent": "box"}]}, label="1")]
    got: Spec = [pod("a", label="1"), {"kind": "get", "name": "g", "id": "@a.cloudName"}]
    asset: Spec = [pod("a", asset={"$text": "hello"}), pod("b", asset={"$file": "spec.json"})]
    reference: Spec = [pod("a", label="1"), pod("b", ref="&a", refs=["&a"])]
    secret: Spec = [pod("a", label="!sec", nested={"$secret": {"x": "!in", "y": 1}}), pod("b", host="@a.label")]
    return [
        _updown("no resources", [], [{"kind": "export", "name": "x", "value": "1"}]),
        _updown("plain resources, an update, a removal", SMALL, edit(SMALL, "a", label="2"), SMALL[:1]),
        _updown("the big program, step by step", BASE, edit(BASE, "pod", label="b"), without(BASE, "box", "inner", "leaf", "o"), BASE),
        _updown("components and parents", box, [*box, pod("in2", {"parent": "box"})], box[:1]),
        _updown("components in components", deep, edit(deep, "p", label="2")),
        _updown("outputs of a component that change", [*box, {"kind": "outputs", "name": "o", "of": "box", "props": {"v": 1}}],
                [*box, {"kind": "outputs", "name": "o", "of": "box", "props": {"v": 2, "s": "!x"}}]),
        _updown("depends_on", pods, edit(pods, "a", gpu="2")),
        _updown("an explicit provider", prov, edit(prov, "p", label="2")),
        _updown("a provider whose change replaces what it serves", prov, edit(prov, "eu", region="us-1")),
        _updown("providers given to a component, with a secret setting", provs, edit(provs, "eu", token="!other")),
        _updown("from the default to an explicit provider", [prov[0], pod("p", label="1")], prov),
        _updown("secrets, nested ones too", secret, edit(secret, "a", label="!other")),
        _updown("a secret that becomes plain", [pod("a", label="!v")], [pod("a", label="v")]),
        _updown("additional_secret_outputs", [pod("a", {"additional_secret_outputs": ["ip"]})], [pod("a")]),
        _updown("protect set and taken off", [pod("a", {"protect": True})], [pod("a", {"protect": False})]),
        _updown("ignore_changes of a whole key", [pod("a", {"ignore_changes": ["label"]}, label="1")],
                [pod("a", {"ignore_changes": ["label"]}, label="2", other="x")]),
        _updown("ignore_changes of a part", nested, edit(nested, "a", conf={"x": 2, "y": 2}, items=[9, 3])),
        _updown("replace_on_changes", roc, edit(roc, "a", label="2")),
        _updown("delete_before_replace with dependents", dbr, edit(dbr, "a", zone="2")),
        _updown("delete_before_replace switched off", cbd, edit(cbd, "a", gpu="2")),
        _updown("a replacement that is created first", [pod("a", zone="1"), pod("b", host="@a.cloudName")],
                [pod("a", zone="2"), pod("b", host="@a.cloudName")]),
        _updown("deleted_with", with_, edit(with_, "a", gpu="2"), with_[:1]),
        _updown("retain_on_delete", [pod("a"), pod("b", {"retain_on_delete": True})], [pod("a")]),
        _updown("replace_with", repl, edit(repl, "a", gpu="2")),
        _updown("replace_with and deleted_with of what is created first", late, edit(late, "a", zone="2")),
        _updown("an alias by name", [pod("old", label="1")], [pod("new", {"aliases": [{"name": "old"}]}, label="1")]),
        _updown("an alias by urn", [pod("old", label="1")],
                [pod("new", {"aliases": ["urn:pulumi:dev::px::toy:index:Pod::old"]}, label="2")]),
        _updown("a resource moved under a component", [{"kind": "box", "name": "box"}, pod("in", label="1")],
                [moved[0], pod("in", {"parent": "box", "aliases": [{"parent": ""}]}, label="1")]),
        _updown("a resource moved out of a component", [{"kind": "box", "name": "box"}, pod("in", {"parent": "box"}, label="1")], unboxed),
        _updown("a renamed component takes its children along",
                [{"kind": "box", "name": "box"}, pod("box-in", {"parent": "box"}, label="1"), pod("user", host="@box-in.ip")],
                [{"kind": "box", "name": "cube", "opts": {"aliases": [{"name": "box"}]}},
                 pod("cube-in", {"parent": "cube"}, label="1"), pod("user", host="@cube-in.ip")]),
        _updown("a renamed provider", prov,
                [{"kind": "provider", "name": "europe", "props": {"region": "eu-1"}, "opts": {"aliases": [{"name": "eu"}]}},
                 pod("p", {"provider": "europe"}, label="1")]),
        _updown("custom_timeouts", [pod("a", {"custom_timeouts": {"create": "1h30m", "update": "10s", "delete": "90s"}}, label="1")],
                [pod("a", {"custom_timeouts": {"create": "1m"}}, label="1")]),
        _updown("get", got, got[:1]),
        _updown("assets of text and file", asset, edit(asset, "a", asset={"$text": "world"})),
        _updown("resource references", reference),
        _updown("an invoke", [{"kind": "invoke", "name": "said", "say": "hello"}]),
        _updown("transformations of the client", [pod("a", {"transformations": "changed"}, label="1")]),
        _updown("numbers, texts, lists, nothing", [pod("a", n=1, f=0.1, big=1e22, t="ü\n", l=[], o={}, deep={"a": {"b": [None, False]}})],
                [pod("a", n=2, f=0.5, big=3, t="", l=[1], o={"x": 1}, deep={})]),
    ]  # fmt: skip


def _failures() -> list[Case]:
    two, gpu2 = edit(BASE, "pod", label="b"), edit(BASE, "pod", gpu="B200")
    nobox = without(BASE, "box", "inner", "leaf", "o")
    return [
        Case("a create that fails, healed", (Step("up", SMALL, (("create", "b", "error"),), 1), Step("up", SMALL), Step("destroy"))),
        Case("a create that is not ready, twice, healed", (
            Step("up", SMALL, (("create", "b", "init"),), 1), Step("up", SMALL, (("update", "b", "init"),), 1), Step("up", SMALL), Step("destroy"))),
        Case("a create that is not ready, destroyed", (Step("up", SMALL, (("create", "b", "init"),), 1), Step("destroy")), 0),
        Case("an update that fails, healed", (Step("up", BASE), Step("up", two, (("update", "pod", "error"),), 1), Step("up", two), Step("destroy"))),
        Case("an update that is not ready, healed", (
            Step("up", BASE), Step("up", two, (("update", "pod", "init"),), 1), Step("up", two), Step("destroy"))),
        Case("inputs that are refused", (Step("up", SMALL), Step("up", edit(SMALL, "a", label="bad"), (), 1), Step("up", SMALL), Step("destroy"))),
        Case("a replacement whose create fails, healed", (
            Step("up", BASE), Step("up", gpu2, (("create", "pod", "error"),), 1), Step("up", gpu2, calls_differ=_AGAIN), Step("destroy"))),
        Case("a replacement whose create fails, destroyed", (
            Step("up", BASE), Step("up", gpu2, (("create", "pod", "error"),), 1), Step("destroy"))),
        Case("a replacement whose first delete fails, healed", (
            Step("up", BASE), Step("up", gpu2, (("delete", "pod", "error"),), 1, calls_differ=_AGAIN), Step("up", gpu2, calls_differ=_AGAIN),
            Step("destroy", calls_differ=_AGAIN))),
        Case("a replaced resource whose delete fails, healed", (
            Step("up", BASE), Step("up", edit(BASE, "eu", region="us-1"), (("delete", "eupod", "error"),), 1), Step("up"), Step("destroy"))),
        Case("a program that fails in the middle", (
            Step("up", BASE), Step("up", [*nobox, {"kind": "raise", "name": "r"}], (), 1), Step("up", BASE), Step("destroy"))),
        Case("protected resources stay with what they need", (
            Step("up", with_opts(BASE, "pod", protect=True)), Step("destroy", None, (), 1, state_differs=_MORE, calls_differ=_WITH),
            Step("up", BASE), Step("destroy")), None),
        Case("a protected resource that would be replaced", (
            Step("up", with_opts(BASE, "pod", protect=True)), Step("up", with_opts(gpu2, "pod", protect=True), (), 1), Step("up", BASE),
            Step("destroy"))),
        Case("a removed resource that is protected", (
            Step("up", [pod("a", {"protect": True}), pod("b")]), Step("up", [pod("b")], (), 1), Step("up", [pod("a"), pod("b")]), Step("destroy"))),
        Case("a delete that fails, retried", (Step("up", SMALL), Step("destroy", None, (("delete", "b", "error"),), 1), Step("destroy")), 0),
        Case("a delete that fails beside others", (
            Step("up", [pod("a"), pod("b"), pod("c", host="@b.ip")]),
            Step("destroy", None, (("delete", "c", "error"),), 1, state_differs=_MORE, calls_differ=_MORE), Step("destroy", calls_differ=_MORE)), 0),
        Case("what is gone is found by a refresh", (
            Step("up", SMALL), Step("refresh", None, (("read", "a", "gone"),)), Step("up", SMALL), Step("destroy"))),
        Case("a read that fails in a refresh", (
            Step("up", SMALL), Step("refresh", None, (("read", "a", "error"),), 1, calls_differ=_MORE), Step("up", SMALL),
            Step("destroy"))),
        Case("a read that finds it unhealthy", (
            Step("up", SMALL), Step("refresh", None, (("read", "a", "init"),)), Step("up", SMALL), Step("destroy")), 0),
        Case("an invoke that fails", (Step("up", [{"kind": "python", "name": "p", "code":
             "pulumi.runtime.invoke('toy:index:say', {'fail': True})"}], (), 1, state_differs="when the program sees it"), Step("destroy"))),
    ]  # fmt: skip


def _renames() -> list[Case]:
    """Return renames whose step fails: the state must hold together, whoever goes on with it."""
    one: Spec = [pod("old", label="1"), pod("user", host="@old.ip")]
    new: Spec = [pod("new", {"aliases": [{"name": "old"}]}, label="1"), pod("user", host="@new.ip")]
    bad = edit(new, "new", label="bad")
    guarded = with_opts(one, "old", protect=True)
    boxes: Spec = [{"kind": "box", "name": "outer"}, {"kind": "box", "name": "in"}, pod("p", {"parent": "in"}, label="1")]
    moved = with_opts(boxes, "in", parent="outer", aliases=[{"parent": ""}])
    lodging: Spec = [one[0], pod("lodger", {"deleted_with": "old", "protect": True}, label="1")]
    return [
        Case("a rename whose inputs are refused", (Step("up", one), Step("up", bad, (), 1), Step("refresh"), Step("up", new),
             Step("destroy")), 0),
        Case("a rename whose update fails", (
            Step("up", one), Step("up", edit(new, "new", label="2"), (("update", "new", "error"),), 1), Step("up", new), Step("destroy")), 0),
        Case("a rename whose replacement fails", (
            Step("up", one), Step("up", edit(new, "new", zone="2"), (("create", "new", "error"),), 1), Step("up", new), Step("destroy")), 0),
        Case("a rename whose replacement that deletes first fails", (
            Step("up", one), Step("up", edit(new, "new", gpu="2"), (("create", "new", "error"),), 1), Step("up", new, calls_differ=_AGAIN), Step("destroy")), 0),
        Case("a rename of what is protected and would be replaced", (
            Step("up", guarded), Step("up", with_opts(edit(new, "new", zone="2"), "new", protect=True), (), 1), Step("up", new), Step("destroy")), 0),
        Case("a rename whose replacement stands and whose old one cannot be deleted", (
            Step("up", one), Step("up", edit(new, "new", zone="2"), (("delete", "old", "error"),), 1), Step("up", edit(new, "new", zone="2")), Step("destroy")), 0),
        Case("a rename and replacement of that in which something protected lives", (
            Step("up", lodging), Step("up", edit(new[:1], "new", zone="2"), (), 1), Step("destroy", code=1, calls_differ=_UNDER, state_differs=_UNDER)), 3),
        Case("a component that moves, and a child whose inputs are refused", (
            Step("up", boxes), Step("up", edit(moved, "p", label="bad"), (), 1), Step("up", moved), Step("destroy")), 0),
    ]  # fmt: skip


def _code(text: str) -> dict[str, Any]:
    return {"kind": "python", "name": "p", "code": text}


def _endings() -> list[Case]:
    """Return the ways in which a program may end."""
    up = Step("up", [pod("a")])
    return [
        Case(name, (up, Step("up", [pod("a"), _code(text)], (), code), Step("destroy")), 0)
        for name, text, code in [
            ("a program that logs an error", "pulumi.log.error('x')", 0),
            ("a program that ends itself well", "import sys\nsys.exit(0)", 0),
            ("a program that ends itself with a code", "import sys\nsys.exit(3)", 1),
            ("a program that raises RunError", "raise pulumi.RunError('stop here')", 1),
            ("an apply that fails", "made['a'].ip.apply(lambda v: 1 / 0)", 1),
            ("two resources of one name", "Pod('a', {})", 1),
            ("pulumi.run", "async def f():\n    Pod('late', {'label': '1'})\n    return {'x': 1}\npulumi.run(f)", 0),
        ]
    ]


def last(spec: Spec, name: str) -> Spec:
    """Return the spec with a resource after all that does not need it: what runs beside a failing step would else be chance."""
    item = next(item for item in spec if item["name"] == name)
    after = [other for other in spec if f"@{name}" in json.dumps(other) or other.get("opts", {}).get("deleted_with") == name]
    before = [other for other in spec if other is not item and other not in after]
    names = [other["name"] for other in before if other.get("kind", "pod") == "pod"]
    return with_opts([*before, item, *after], name, depends_on=names)


_OPERATIONS: dict[str, Step] = {
    "up": Step("up", edit(BASE, "pod", label="b")),
    "replacing up": Step("up", edit(BASE, "pod", gpu="B200"), calls_differ=_AGAIN),
    "removing up": Step("up", without(BASE, "box", "inner", "leaf", "o")),
    "failed create": Step("up", last([*BASE, pod("new", host="@lease")], "new"), (("create", "new", "error"),), 1),
    "failed update": Step("up", last(edit(BASE, "pod", label="c"), "pod"), (("update", "pod", "error"),), 1),
    "half update": Step("up", last(edit(BASE, "inner", label="d"), "inner"), (("update", "inner", "init"),), 1),
    "failed replace": Step("up", last(edit(BASE, "pod", gpu="GB200"), "pod"), (("create", "pod", "error"),), 1, calls_differ=_AGAIN),
    "failed delete": Step("up", without(BASE, "eu", "eupod"), (("delete", "eupod", "error"),), 1),
    "failed program": Step("up", [*BASE, {"kind": "raise", "name": "r"}], (), 1),
    "refresh": Step("refresh"),
    "destroy": Step("destroy"),
    "interrupted up": Step(
        "up", last([*BASE, pod("new", host="@lease")], "new"), (("create", "new", "slower"),), 1, interrupt="create new"
    ),
    "interrupted replace": Step(
        "up", last(edit(BASE, "pod", gpu="GB300"), "pod"), (("delete", "pod", "slower"),), 1, interrupt="delete pod", calls_differ=_AGAIN
    ),
    "interrupted destroy": Step("destroy", None, (("delete", "lease", "slower"),), 1, interrupt="delete lease", code_differs=_DONE),
    "failed destroy": Step("destroy", None, (("delete", "lease", "error"),), 1, state_differs=_MORE, calls_differ=_MORE),
}


def pairs() -> list[Case]:
    """Return each ordered pair of operations, on the big program."""
    result = []
    for one, two in product(_OPERATIONS, repeat=2):
        first, second = _OPERATIONS[one], _OPERATIONS[two]
        if one in ("failed replace", "interrupted replace"):
            second = replace(second, calls_differ=_AGAIN)
        result.append(Case(f"{one}, then {two}", (Step("up", BASE), _loose(first), _loose(second), Step("destroy", calls_differ=_MORE))))
    return result


def _loose(step: Step) -> Step:
    """A fault may not strike in the second place: what it left decides the code, on both engines alike."""
    return replace(step, code=-1 if step.code else 0)


def _previews() -> list[Case]:
    """Return previews of what deletes and refreshes: nothing may change, in the cloud or in state."""
    see, look = Step("destroy --preview-only"), Step("refresh --preview-only")
    protected = with_opts(SMALL, "a", protect=True)
    return [
        Case("previews of destroy and refresh, then both", (Step("up", BASE), see, look, Step("refresh"), Step("destroy"))),
        Case("a preview of a refresh that finds something gone", (
            Step("up", SMALL), Step(look.verb, None, (("read", "a", "gone"),)), Step("up", SMALL), Step("destroy"))),
        Case("a preview of a destroy of what is protected", (
            Step("up", protected), Step(see.verb, None, (), 1), Step("up", SMALL), Step("destroy")), 0),
        Case("a preview of a destroy of nothing", (Step("up", []), see, Step("destroy"), see, look)),
    ]  # fmt: skip


CASES = [*_support(), *_failures(), *_renames(), *_endings(), *_previews()]

REFUSALS = [
    Refusal("transforms", [pod("z"), {"kind": "python", "name": "p", "code":
        "Pod('a', {}, pulumi.ResourceOptions(transforms=[lambda a: None]))"}], "transforms: not supported"),
    Refusal("stack transforms", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.runtime.register_stack_transform(lambda a: None)"}], "stack transforms: not supported"),
    Refusal("invoke transforms", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.runtime.register_invoke_transform(lambda a: None)"}], "invoke transforms: not supported"),
    Refusal("resource hooks", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.ResourceHook('h', lambda a: None)"}], "resource hooks: not supported"),
    Refusal("remote components", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.ComponentResource('toy:index:Remote', 'r', {}, None, remote=True)"}], "remote components: not supported"),
    Refusal("calls of methods", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.runtime.call('toy:index:Pod/run', {})"}], "calls of resource methods: not supported"),
    Refusal("import", [pod("z"), pod("a", {"import_": "id"})], "import of existing resources: not supported"),
    Refusal("replacement_trigger", [pod("z"), pod("a", {"replacement_trigger": "1"})], "replacement_trigger: not supported"),
    Refusal("StackReference", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.StackReference('organization/px/other')"}], "StackReference: not supported"),
    Refusal("built-in resources", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.Stash('s', input=1)"}], "pulumi:index:Stash: not supported"),
    Refusal("archives", [pod("z"), {"kind": "python", "name": "p", "code": "pulumi.FileArchive('.')"}], "archives: not supported"),
    Refusal("remote assets", [pod("z"), {"kind": "python", "name": "p", "code":
        "pulumi.RemoteAsset('https://example.org/x')"}], "remote assets: not supported"),
    Refusal("dynamic providers", [pod("z"), {"kind": "python", "name": "p", "code":
        "import pulumi.dynamic\nclass P(pulumi.dynamic.ResourceProvider):\n    pass\nclass R(pulumi.dynamic.Resource):\n    pass\nR(P(), 'd', {})"}],
        "dynamic providers: not supported"),
    Refusal("env_var_mappings", [pod("z"), {"kind": "provider", "name": "eu", "opts": {"env_var_mappings": {"A": "B"}}}],
        "env_var_mappings"),
    Refusal("another runtime", [], "runtime 'nodejs' is not supported", project="name: px\nruntime: nodejs\n", line=False),
    Refusal("refresh as an option", [], "'options: refresh' is not supported",
        project="name: px\nruntime: python\noptions:\n  refresh: always\n", line=False),
    Refusal("another secrets provider", [], "secrets provider 'awskms://x' is not supported", settings="secretsprovider: awskms://x\n", line=False),
    Refusal("packages from elsewhere", [], "is not a local folder",
        project="name: px\nruntime: python\npackages:\n  x: https://example.org/x.git\n", line=False),
]  # fmt: skip
