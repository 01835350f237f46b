"""Texts as they should be learnt: one form of each character, no control signs, what is private masked by choice."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
"""Signs that print nothing. Joiners stay: scripts and emoji are written with them."""
_BREAKS = re.compile("\r\n?|\u2028|\u2029")


def _luhn(match: re.Match[str]) -> bool:
    digits = [int(sign) for sign in match[0] if sign.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _iban(match: re.Match[str]) -> bool:
    text = match[0].replace(" ", "")
    return 15 <= len(text) <= 34 and int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def _phone(match: re.Match[str]) -> bool:
    digits = sum(sign.isdigit() for sign in match[0])
    return 9 <= digits <= 15 and not re.match(r"\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}", match[0])


def _address(match: re.Match[str]) -> bool:
    return ":" in match[0] or all(int(part) < 256 for part in match[0].split("."))


Mask = tuple[str, re.Pattern[str], Callable[[re.Match[str]], bool]]
_MASKS: dict[str, Mask] = {
    "key": (
        "[KEY]",
        re.compile(
            r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{20,}"
            r"|xox[abprs]-[A-Za-z0-9-]{10,}|AIza[\w-]{35}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,})\b"
            r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
        ),
        lambda match: True,
    ),
    "email": ("[EMAIL]", re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), lambda match: True),
    "iban": ("[IBAN]", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _iban),
    "card": ("[CARD]", re.compile(r"\b\d(?:[ -]?\d){12,18}\b"), _luhn),
    "ip": ("[IP]", re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-fA-F]{1,4}:){7}[0-9a-fA-F]{1,4})(?![\w:]|\.\d)"), _address),
    "phone": ("[PHONE]", re.compile(r"(?<![\w.+])(?:\+|\(|\b)\d[\d ()./-]{6,20}\d\b"), _phone),
}
"""What it is called, how it looks, and whether a match is one; in the order in which they are looked for."""


class Cleaner:
    """Clean every text of a row; counts what was changed."""

    def __init__(self, unicode: str, masked: Collection[str]) -> None:
        self._form: Any = "" if unicode == "none" else unicode.upper()
        self._masks = [mask for name, mask in _MASKS.items() if name in masked or "all" in masked]
        self.counts: Counter[str] = Counter()

    def value(self, value: Any) -> Any:
        """Return a value with its texts cleaned, those in lists and objects too; the names of fields stay."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {name: self.value(item) for name, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, (list, tuple)) else value

    def text(self, text: str) -> str:
        """Return a text cleaned."""
        found = text
        if "\r" in found or not found.isascii():
            found = _BREAKS.sub("\n", found)
        if self._form and not found.isascii() and not unicodedata.is_normalized(self._form, found):
            found = unicodedata.normalize(self._form, found)
            self.counts["characters unified"] += 1
        if not found.isprintable():
            without = _CONTROL.sub("", found)
            self.counts["control characters taken out"] += len(found) - len(without)
            found = without
        for mask in self._masks:
            found = mask[1].sub(functools.partial(self._masked, mask), found)
        return found

    def _masked(self, mask: Mask, match: re.Match[str]) -> str:
        name, _, is_one = mask
        if not is_one(match):
            return match[0]
        self.counts[name] += 1
        return name
