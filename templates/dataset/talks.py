"""Chats between people, as Telegram, WhatsApp and Slack export them: what one of them says becomes the answers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import rows

PAUSE = 8 * 3600.0
"""Seconds of silence after which another conversation begins."""
_TELEGRAM = ("personal_chat", "private_group", "private_supergroup", "public_supergroup", "bot_chat", "saved_messages", "private_channel")
_LINE = re.compile(
    r"[\u200e\u200f]?\[?(\d{1,4})([./-])(\d{1,2})[./-](\d{1,4}),? (\d{1,2})[:.](\d\d)(?:[:.](\d\d))?[\s\u202f]?([AaPp]\.?[Mm]\.?)?"
    r"(?:\]| [-\u2013]) (.*)"
)
_SPOKEN = re.compile(r"([^:]{1,60}): (.*)", re.DOTALL)
_NOTHING = re.compile(r"\s*(\u200e.*|<[^<>]*>|This message was deleted\.?|You deleted this message\.?|null)?\s*", re.DOTALL)
"""What stands in place of a picture, a call or a message that was taken back."""
_LOOKED_AT = 5


class Said(NamedTuple):
    """One message: its line, when it was sent where that is known, who said what."""

    line: int
    at: float | None
    who: str
    text: str


def is_telegram(value: Any) -> bool:
    """Tell whether a value is a chat of Telegram's result.json, or all of them."""
    if not isinstance(value, Mapping):
        return False
    chats = value.get("chats")
    return (isinstance(chats, Mapping) and isinstance(chats.get("list"), list)) or (
        value.get("type") in _TELEGRAM and isinstance(value.get("messages"), list)
    )


def telegram(line: int, value: Mapping[str, Any]) -> Iterator[list[Said]]:
    """Yield the messages of each chat in an export of Telegram."""
    for chat in value["chats"]["list"] if "chats" in value else [value]:
        yield [
            Said(line, _number(one.get("date_unixtime")), str(one["from"]), text)
            for one in chat.get("messages") or ()
            if isinstance(one, Mapping) and one.get("type") == "message" and one.get("from") and (text := _telegram_text(one.get("text")))
        ]


def _telegram_text(text: Any) -> str:
    parts = text if isinstance(text, list) else [text]
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts if isinstance(part, (str, Mapping)))


def is_slack(stream: io.BufferedReader[Any]) -> bool:
    """Tell by its beginning whether a .json file is a day of a channel of Slack; nothing of it is used up."""
    start = stream.peek(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()[: 1 << 14]
    return start[:1] == b"[" and all(re.search(rb'"%s":\s*"' % key, start) for key in (b"user", b"ts", b"text"))


def slack(messages: Iterable[tuple[int, Any]]) -> Iterator[Said]:
    """Yield the messages of a day of Slack: the name that is shown where the export has it, else the user's id."""
    for line, one in messages:
        if isinstance(one, Mapping) and one.get("user") and one.get("text") and not one.get("subtype"):
            profile = one.get("user_profile")
            shown = profile.get("display_name") or profile.get("real_name") if isinstance(profile, Mapping) else None
            yield Said(line, _number(one.get("ts")), str(shown or one["user"]), str(one["text"]))


def is_whatsapp(stream: io.BufferedReader[Any]) -> bool:
    """Tell by its first lines whether a text is a chat of WhatsApp; nothing of it is used up."""
    start = stream.peek(1 << 16).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "ignore").splitlines()[:_LOOKED_AT]
    found = [match for line in start if (match := _LINE.fullmatch(line))]
    return bool(start and found and _LINE.fullmatch(start[0])) and any(_SPOKEN.fullmatch(match[9]) for match in found)


def whatsapp(stream: io.BufferedReader[Any], name: str) -> list[Said]:
    """Return the messages of a chat of WhatsApp; a line without a date goes on with the message before it."""
    found: list[tuple[int, re.Match[str], list[str]]] = []
    for number, line in rows.text_lines(stream, name):
        line = line.rstrip("\r\n")
        if match := _LINE.fullmatch(line):
            found.append((number, match, [match[9]]))
        elif found:
            found[-1][2].append(line)
    order = _order([match for _, match, _ in found])
    spoken = ((number, match, _SPOKEN.fullmatch("\n".join(text))) for number, match, text in found)
    return [
        Said(number, _time(match, order), said[1].strip("\u200e "), said[2].strip())
        for number, match, said in spoken
        if said and not _NOTHING.fullmatch(said[2])
    ]


def _order(lines: Iterable[re.Match[str]]) -> str:
    """Return which of day and month comes first, by a number that no month has; with points the day does, else it is not known."""
    for match in lines:
        if len(match[1]) == 4:
            return "ymd"
        if int(match[1]) > 12 or match[2] == ".":
            return "dmy"
        if int(match[3]) > 12:
            return "mdy"
    return ""


def _time(match: re.Match[str], order: str) -> float | None:
    """Return when a line was written, as if in UTC: what counts is how long nobody wrote."""
    numbers = dict(zip(order or "dmy", (int(match[place]) for place in (1, 3, 4)), strict=True))
    hour = int(match[5]) % 12 + 12 * (match[8][0] in "Pp") if match[8] else int(match[5])
    year = numbers["y"] if numbers["y"] > 99 else 2000 + numbers["y"]
    try:
        return datetime(year, numbers["m"], numbers["d"], hour, int(match[6]), int(match[7] or 0)).timestamp()
    except ValueError:
        return None


def conversations(said: Iterable[Said], persona: str, most: int) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield (line, row of messages) of each conversation, (line, "") where the persona answers nobody, (line, why) where it is not there.

    A conversation ends where nobody says anything for long, and at an answer once it has ``most`` characters.
    """
    messages = list(said)
    names = sorted({one.who for one in messages})
    if persona not in names:
        who = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") or "nobody"
        yield (messages[0].line if messages else 1), f"a chat of {who}: say whose messages are the answers, --set persona=NAME"
        return
    held: list[Said] = []
    size = 0
    for one in messages:
        silent = bool(held) and one.at is not None and held[-1].at is not None and one.at - held[-1].at > PAUSE
        full = size > most and held[-1].who == persona != one.who
        if silent or full:
            yield _row(held, persona, len(names) > 2)
            held, size = [], 0
        held.append(one)
        size += len(one.text)
    yield _row(held, persona, len(names) > 2)


def _row(said: list[Said], persona: str, several: bool) -> tuple[int, dict[str, Any] | str]:
    turns: list[dict[str, str]] = []
    for one in said:
        role = "assistant" if one.who == persona else "user"
        text = f"{one.who}: {one.text}" if several and role == "user" else one.text
        if not turns and role == "assistant":
            continue  # nothing was asked
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n{text}"
        else:
            turns.append({"role": role, "content": text})
    if turns and turns[-1]["role"] == "user":
        turns.pop()
    line, at = said[0].line, said[-1].at
    if not turns:
        return line, ""
    return line, {"messages": turns} | ({} if at is None else {"timestamp": at})


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
