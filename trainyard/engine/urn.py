"""Names of resources: ``urn:pulumi:<stack>::<project>::<parent type$...>type::name``."""

from __future__ import annotations

STACK_TYPE = "pulumi:pulumi:Stack"
_PROVIDERS = "pulumi:providers:"


def make(stack: str, project: str, parent: str, kind: str, name: str) -> str:
    """Return the URN of a resource; the Stack as parent leaves no trace in it."""
    chain = qualified_type(parent) if parent else ""
    qualified = kind if chain in ("", STACK_TYPE) else f"{chain}${kind}"
    return f"urn:pulumi:{stack}::{project}::{qualified}::{name}"


def below(parent: str, urn: str) -> str:
    """Return the URN that a resource has under another parent."""
    head, _, rest = urn.partition("::")
    return make(head.rpartition(":")[2], rest.partition("::")[0], parent, type_of(urn), name_of(urn))


def qualified_type(urn: str) -> str:
    """Return the chain of types in a URN."""
    return urn.split("::", 3)[2] if urn.count("::") >= 3 else ""


def type_of(urn: str) -> str:
    """Return the resource's own type."""
    return qualified_type(urn).rpartition("$")[2]


def name_of(urn: str) -> str:
    """Return the resource's name."""
    parts = urn.split("::", 3)
    return parts[3] if len(parts) == 4 else urn


def is_provider(kind: str) -> bool:
    """Say whether a type is that of a provider resource."""
    return kind.startswith(_PROVIDERS)


def provider_type(package: str) -> str:
    """Return the type of a package's provider resources."""
    return _PROVIDERS + package


def package_of(kind: str) -> str:
    """Return the package of a type token (of a provider's type: the package it provides)."""
    return kind[len(_PROVIDERS) :] if is_provider(kind) else kind.partition(":")[0]


def reference(urn: str, identity: str) -> str:
    """Return the reference to a provider resource."""
    return f"{urn}::{identity}"


def split_reference(text: str) -> tuple[str, str]:
    """Return URN and id of a provider reference."""
    urn, _, identity = text.rpartition("::")
    return urn, identity
