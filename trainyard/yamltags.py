"""What a scalar of YAML may be beside a text, a number, true, false and null."""

from __future__ import annotations


class Unsafe(str):
    """A text with the tag ``!unsafe``: it is no template, whatever it looks like."""


class Vaulted(str):
    """A text with the tag ``!vault``: what Ansible has encrypted."""


class Octal(int):
    """A number that is written with a zero in front, as modes of files are."""

    written: str

    def __new__(cls, written: str) -> Octal:
        number = super().__new__(cls, written.replace("_", ""), 8)
        number.written = written
        return number
