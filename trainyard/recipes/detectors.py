"""Keys of more services, known by detect-secrets where it is installed (extra ``scan``): Azure, Discord, Slack, Square, Twilio and others.

Of its detectors those serve whose shape is a certain service's: its measures of randomness, names like "password" and addresses
meet base64, hashes and prose of training data all the time, and would keep a person's own code at home.
"""

from __future__ import annotations

import functools
import importlib
import re

_DETECTORS = (
    ("azure_storage_key", "AzureStorageKeyDetector", "a key of Azure Storage", b"AccountKey="),
    ("discord", "DiscordBotTokenDetector", "a token of Discord", b""),
    ("npm", "NpmDetector", "a token of npm", b":_authToken="),
    ("slack", "SlackDetector", "a token of Slack", b"hooks.slack.com/services/"),
    ("square_oauth", "SquareOAuthDetector", "a key of Square", b"sq0csp-"),
    ("telegram_token", "TelegramBotTokenDetector", "a token of Telegram", b":AA"),
    ("twilio", "TwilioKeyDetector", "a key of Twilio", b""),
)
"""Module and class in detect-secrets, what its secret is of, and what none is without, where that is found faster."""
_BEFORE, _BEHIND = re.compile(rb"[A-Za-z0-9_+/-]"), re.compile(rb"[A-Za-z0-9_+/=-]")
"""What stands beside a match that is only a piece of something longer, like base64."""
_TAIL = 30
_LEAST_DIGITS = 2


@functools.cache
def patterns() -> tuple[tuple[str, bytes, re.Pattern[bytes]], ...]:
    """Return kind, what none is without (b"": not told) and pattern; none without detect-secrets. Importing it takes 0.1 s."""
    each = []
    for module, name, kind, begin in _DETECTORS:
        try:
            detector = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)
        except ImportError:
            return ()
        each += [(kind, begin, re.compile(one.pattern.encode(), one.flags & ~re.UNICODE)) for one in detector.denylist]
    return tuple(each)


def is_key(text: bytes, match: re.Match[bytes]) -> bool:
    """Tell whether a match is a key, and neither a piece of something longer nor an example."""
    before, behind = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
    digits = sum(48 <= letter < 58 for letter in match[0][-_TAIL:])
    whole = not _BEFORE.match(before) and not _BEHIND.match(behind)
    return whole and digits >= _LEAST_DIGITS and b"EXAMPLE" not in match[0].upper()
