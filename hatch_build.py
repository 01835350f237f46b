"""What a checkout has at its top and the wheel carries inside the package, where trainyard/shipped.py finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = ("docker", "docs/**/*.md", "infra", "playbooks", "templates", "tools", "Pulumi.yaml", "Pulumi.*.yaml")
"""Patterns below the checkout; a stack of a run (Pulumi.a.b.yaml) is nobody's but the run's."""


class Assets(BuildHookInterface):  # type: ignore[type-arg]
    """Adds CARRIED to a wheel; an editable install finds all of it in the checkout itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name what is to be put below trainyard/assets/."""
        if version != "standard":
            return
        root = Path(self.root)
        for path in sorted({path for pattern in CARRIED for path in root.glob(pattern) if path.name.count(".") < 3}):
            build_data["force_include"][str(path)] = f"trainyard/assets/{path.relative_to(root).as_posix()}"
