"""Where a file goes on a host and how it shall lie there, as data."""

from __future__ import annotations

from dataclasses import dataclass

PROGRAM = "0777"
"""What the login's umask leaves of it is the mode of a new program."""


@dataclass(frozen=True, slots=True)
class Owned:
    """The mode (digits, or as chmod reads it), owner and group that a path shall have; what is empty stays as it is."""

    mode: str = ""
    owner: str = ""
    group: str = ""

    @property
    def wished(self) -> bool:
        """Tell whether anything is wished for."""
        return bool(self.mode or self.owner or self.group)


@dataclass(frozen=True, slots=True)
class Placement:
    """All that is said of a file beside its content."""

    path: str
    owned: Owned = Owned()
    name: str = ""
    """What the file is called in a folder, when the path is one."""
    into: bool = False
    """Whether the path is a folder, which is made when it is not there."""
    directory_mode: str = ""
    backup: bool = False
    force: bool = True
    follow: bool = False
    """Whether a link at the path stays one, and what it leads to is changed."""
    parents: bool = False
    """Whether the folders above are made."""
    unsafe: bool = False
    """Whether a file that cannot be replaced may be written in its place, half or whole."""
    validate: str = ""
    """A command of sh that says whether the file ``$part`` may take the place."""
    fresh: str = "0666"
    """The mode of a new file, less what the login's umask takes away."""
