"""What the typed classes of ``resources.py`` share: their outputs, and the options that pods and leases refuse.

``protect`` and ``retain_on_delete``, own or inherited ones, would keep a pod on the bill after destroy.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import pulumi

from trainyard import problems
from trainyard.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ArgsT = TypeVar("ArgsT", bound=DataclassInstance)
else:
    ArgsT = TypeVar("ArgsT")


class TypedResource(pulumi.CustomResource, Generic[ArgsT]):
    """A resource of our provider under its class's name; the attributes that a class names are its outputs."""

    kept: ClassVar[bool] = True
    """Whether ``protect`` and ``retain_on_delete`` may keep it after destroy."""

    def __init__(self, name: str, args: ArgsT, opts: pulumi.ResourceOptions | None = None) -> None:
        shape = next(each for each in type(self).__mro__ if TypedResource in each.__bases__)  # not a subclass of the user's
        kind, props = shape.__name__, dict[str, pulumi.Input[object] | None].fromkeys(shape.__annotations__)
        props.update({field.name: value for field in dataclasses.fields(args) if (value := getattr(args, field.name)) is not None})
        super().__init__(f"trainyard:index:{kind}", name, props, opts if self.kept else _deletable(kind, name, opts))


def _deletable(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> pulumi.ResourceOptions:
    """Refuse options, own or inherited, under which destroy would leave a pod running.

    The SDK does not tell a child that its parent has retain_on_delete; an own ``False`` keeps it from being inherited.
    """
    options = copy.copy(opts) if opts else pulumi.ResourceOptions()
    inherited = options.parent._protect if options.parent is not None else None
    for option, value in (("protect", options.protect or inherited), ("retain_on_delete", options.retain_on_delete)):
        if value:
            raise wrong_setting(f"{kind} '{name}': {option} is refused (own or inherited): destroy would leave a pod that costs money")
    options.protect = options.retain_on_delete = False
    return options


def wrong_setting(text: str) -> pulumi.RunError:
    """Return the error that ends the program; whoever started the engine hears of what kind it is."""
    problems.note(UserError(text))
    return pulumi.RunError(text)
