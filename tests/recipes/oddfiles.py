"""Data files as people have them, and what comes of each: the tests of the data builder read them, its page lists them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

QA = {"instruction": "Say something about it.", "output": "It is something."}
CHAT = {"messages": [{"role": "user", "content": "How are you today?"}, {"role": "assistant", "content": "Very well."}]}
SHARED = {"conversations": [{"from": "human", "value": "Are you there?"}, {"from": "gpt", "value": "Yes."}]}
MEMORY = {"timestamp": "2024-03-05T10:00:00Z", "content": "We rowed to the island.", "tags": ["sport"], "entities": [{"name": "Ada"}]}
NULLS: dict[str, Any] = {**QA, "input": None, "system": None, "tags": None, "history": []}
LINE = json.dumps(QA)
NUMBERS = " ".join(map(str, range(20_000)))


class OddFile(NamedTuple):
    """A file; ``rows`` it gives, None where it stops the build; ``place`` and ``told`` of what is wrong."""

    name: str
    what: str
    content: bytes
    rows: int | None
    place: str = ""
    told: str = ""


def _good(name: str, what: str, content: bytes | str | list[Any] | dict[str, Any], rows: int) -> OddFile:
    return OddFile(name, what, _bytes(content), rows)


def _flawed(name: str, what: str, second: bytes | str, told: str, rows: int = 1) -> OddFile:
    """Return a file whose second row is flawed."""
    return OddFile(name, what, LINE.encode() + b"\n" + _bytes(second), rows, f"{name}:2", told)


def _stops(name: str, what: str, content: bytes | str, at: str, told: str) -> OddFile:
    return OddFile(name, what, _bytes(content), None, f"{name}:{at}", told)


def _bytes(content: Any) -> bytes:
    content = content if isinstance(content, (bytes, str)) else json.dumps(content, indent=1)
    return content if isinstance(content, bytes) else content.encode()


def _flawed_alone(name: str, what: str, content: Any, line: str, told: str) -> OddFile:
    """Return a file of one row, which is flawed."""
    return OddFile(name, what, _bytes(content), 0, f"{name}:{line}", told)


TELEGRAM = {
    "name": "Ann", "type": "personal_chat", "id": 1,
    "messages": [
        {"id": 1, "type": "service", "date_unixtime": "1000", "actor": "Ann", "action": "phone_call", "text": ""},
        {"id": 2, "type": "message", "date_unixtime": "1000", "from": "Bob", "text": "Hello"},
        {"id": 3, "type": "message", "date_unixtime": "1010", "from": "Ann", "text": "Where does it stand?"},
        {"id": 4, "type": "message", "date_unixtime": "1020", "from": "Bob", "text": ["At the ", {"text": "north"}, " yard."]},
        {"id": 5, "type": "message", "date_unixtime": "1030", "from": "Bob", "text": "Near the gate."},
        {"id": 6, "type": "message", "date_unixtime": "1040", "from": "Ann", "text": "Thanks"},
        {"id": 7, "type": "message", "date_unixtime": "90000", "from": "Ann", "text": "And now?"},
        {"id": 8, "type": "message", "date_unixtime": "90010", "from": "Bob", "text": "Still there."},
        {"id": 9, "type": "message", "date_unixtime": "900000", "from": "Ann", "text": "Anybody?"},
    ],
}  # fmt: skip
WHATSAPP = (
    "1/13/24, 10:00\u202fPM - Messages and calls are end-to-end encrypted.\n1/13/24, 10:01\u202fPM - Ann: Where does it stand?\n"
    "1/13/24, 10:02\u202fPM - Bob: At the north yard: near\r\n12:30, at the gate.\n1/13/24, 10:03\u202fPM - Bob: <Media omitted>\n"
    "1/14/24, 9:00\u202fPM - Ann: And now?\n1/14/24, 9:01\u202fPM - Bob: Still there.\n"
)
SLACK = [
    {"type": "message", "user": "U1", "text": "Where does it stand?", "ts": "1700000000.1"},
    {"type": "message", "subtype": "channel_join", "user": "U3", "text": "<@U3> has joined", "ts": "1700000001.1"},
    {"type": "message", "user": "U2", "user_profile": {"real_name": "Bob"}, "text": "At the north yard.", "ts": "1700000002.1"},
]

FILES = (
    _good("plain.jsonl", "a row in each line", LINE + "\n" + LINE, 2),
    _good("crlf.jsonl", "lines end in CR LF, one is empty", f"{LINE}\r\n\r\n{LINE}\r\n", 2),
    _good("bom.jsonl", "begins with a byte order mark", b"\xef\xbb\xbf" + LINE.encode(), 1),
    _good("blank.ndjson", "blank lines before and behind", f"\n\n{LINE}\n   \n", 1),
    _good("list.json", "a list over many lines", [QA, QA, QA], 3),
    _good("strings.json", "a list of texts", ["A text of its own.", "Another text of its own."], 2),
    _good("lines.json", "JSON Lines called .json", LINE + "\n" + LINE, 2),
    _good("one.json", "one conversation over many lines", CHAT, 1),
    _good(
        "over-lines.json", "objects over many lines, one behind the other", f"{json.dumps(QA, indent=1)}\n{json.dumps(CHAT, indent=1)}", 2
    ),
    _good("wrapped.json", "an object around the list", {"version": 2, "memories": [MEMORY, MEMORY], "user": {"id": 1}}, 2),
    _good("one-line.json", "the same in one line", json.dumps({"results": [{"id": "a", "memory": "Likes to walk at night."}]}), 1),
    _good("nulls.jsonl", "nulls and empty lists where others have text", json.dumps(NULLS), 1),
    _good("nan.jsonl", "NaN and Infinity in columns that are not learnt", LINE[:-1] + ', "score": NaN, "timestamp": Infinity}', 1),
    _good("nested.jsonl", "objects within lists within objects", json.dumps({**QA, "meta": {"a": [{"b": {"c": [1, {"d": None}]}}]}}), 1),
    _good("chat.jsonl", "messages", json.dumps(CHAT), 1),
    _good("sharegpt.json", "conversations of ShareGPT", [SHARED], 1),
    _good("table.csv", "commas and a break in quotes, CR LF", 'instruction,output,note\r\n"Say, please","Two\nlines of it",x\r\n', 1),
    _good("table.tsv", "tabs between columns", "prompt\tcompletion\nWhat is it?\tA table.\n", 1),
    _good("semicolons.csv", "semicolons, a comma in numbers", "instruction;output\r\nSay 1,5 of it;It is 1,5\r\n", 1),
    _good("questions.csv", "question and answer", "id,question,answer\n7,What is this thing?,It is a table.\n", 1),
    _good("pairs.jsonl", "input and output", json.dumps({"input": "What is this thing?", "output": "A table."}), 1),
    _good("bom.csv", "a table with a byte order mark", b"\xef\xbb\xbftext\nA text in a table\n", 1),
    _good("memories.csv", "lists in cells", 'timestamp,content,tags,entities\n2024-01-02,We walked home,"a;b","[""Ada""]"\n', 1),
    _good("large.jsonl", "a row of 109 kB", json.dumps({"text": "many different words " + NUMBERS}) + "\n" + LINE, 2),
    _good("emoji.jsonl", "a character of several, in escapes", '{"text": "A family \\ud83d\\udc68\\u200d\\ud83d\\udc69 walks home"}', 1),
    _good(
        "notes.md",
        "headings, and a head with date and tags",
        "---\ndate: 2024-05-06\ntags: [a]\n---\n# One\n\nA first.\n\n# Two\n\nA next.\n",
        2,
    ),
    _good("notes.txt", "text with a mark and CR LF", b"\xef\xbb\xbfA text,\r\nin two lines.\r\n", 1),
    _flawed("latin1.jsonl", "a line in Latin-1", b'{"text": "caf\xe9"}', "not UTF-8: byte 0xe9"),
    _flawed("twice.jsonl", "a key given twice", '{"text": "a", "text": "b"}', 'the key "text" is given twice'),
    _flawed("torn.jsonl", "the last line is cut off", '{"text": "a', "not valid JSON"),
    _flawed("number.jsonl", "a row that is a number", "7", "must be an object"),
    _flawed("half.jsonl", "half of a surrogate pair", '{"text": "half \\ud800 of a pair"}', "half of a surrogate pair"),
    _flawed("deep.jsonl", "100 000 lists in each other", '{"text":' + "[" * 100_000, "not valid JSON"),
    _flawed("empty-row.jsonl", "a row of nothing", "{}", "fits no known form"),
    _flawed("silent.jsonl", "a memory of nothing", '{"content": " ", "timestamp": 1}', "the memory says nothing"),
    _flawed("picture.jsonl", "a row with a picture", json.dumps({**QA, "image": "x.png"}), "'image' is no text"),
    _flawed("pair.jsonl", "two answers without a prompt", '{"chosen": "good answer", "rejected": "bad answer"}', "no 'prompt'"),
    OddFile("columns.csv", "a line with more columns", b"instruction,output\nx of it,some y\na,b,c\n", 1, "columns.csv:3", "3 columns"),
    _stops("utf16.jsonl", "UTF-16", LINE.encode("utf-16"), "1:1", "this is UTF-16 text"),
    _stops("zip.jsonl", "a compressed file", b"PK\x03\x04....", "1:1", "this is a compressed file"),
    _stops("empty.jsonl", "an empty file", b"", "1:1", "no row in this file"),
    _stops("empty.md", "an empty document", b"\n\n", "1:1", "no text in this file"),
    _stops("object.json", "an empty list in an object", b'{\n "data": []}', "1:1", "no row in this file"),
    _stops("lists.json", "two lists in an object", '{"data": [{"text": "words"}],\n "rows": []}', "2:10", "the object holds two lists"),
    _stops(
        "both.json",
        "a list, and a row around it",
        '{"data": [{"text": "words"}],\n "prompt": "p"}',
        "2:16",
        "the object holds rows in 'data'",
    ),
    _stops("again.json", "a key given twice, over lines", b'{"a": 1,\n "a": 2}', "2:7", 'the key "a" is given twice'),
    _stops("cut.json", "a list that is cut off", b'{"memories": [{"content": "words"},\n', "2:1", "not valid JSON: the list ends here"),
    _stops("comma.json", "a comma before the end", b'{"a": 1,\n}', "2:1", "not valid JSON: expected the name of a field"),
    _stops("what.docx", "a file of another kind", b"x", "1:1", "cannot tell how to read it"),
    _flawed_alone(
        "result.json", "a chat of Telegram, without persona", TELEGRAM, "1", "a chat of Ann, Bob: say whose messages are the answers"
    ),
    _flawed_alone(
        "_chat.txt", "a chat of WhatsApp, without persona", WHATSAPP, "2", "a chat of Ann, Bob: say whose messages are the answers"
    ),
    _flawed_alone(
        "2024-01-02.json", "a day of Slack, without persona", SLACK, "2", "a chat of Bob, U1: say whose messages are the answers"
    ),
)
"""Each with what it gives when the builder reads it."""


def table() -> str:
    """Return them as a table of Markdown."""
    lines = ["| file | is | gives |", "|---|---|---|"]
    for each in FILES:
        said = f"`{each.place}`: {each.told} ..." if each.told else ""
        rows = "the build stops" if each.rows is None else f"{each.rows} row{'s' * (each.rows > 1)}"
        lines.append(f"| `{each.name}` | {each.what} | {rows}{'; ' * bool(said)}{said} |")
    return "\n".join(lines) + "\n"
