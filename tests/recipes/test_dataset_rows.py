"""Recipe dataset reads files as people have them: the right rows, or a reason with file and line. Needs none of its packages."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.conftest import ROOT
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import resolve

FOLDERS = (ROOT / "templates" / "dataset", ROOT / "trainyard" / "recipes")
NAMES = ("sources", "documents", "wrapped", "exports", "memories", "preferences", "cleaning", "quality", "spool", "forms", "rows")
Read = Callable[..., list[tuple[str, Any]]]
QA = {"instruction": "Say something about it.", "output": "It is something."}
MEMORY = {"timestamp": "2024-03-05T10:00:00Z", "content": "We rowed to the island.", "tags": ["sport"], "entities": [{"name": "Ada"}]}
CHAT = {"messages": [{"role": "user", "content": "How are you today?"}, {"role": "assistant", "content": "Very well."}]}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import the recipe's modules that read, as they stand beside each other in a bundle."""
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(str(folder))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield types.SimpleNamespace(**{name: __import__(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def read(modules: Any, tmp_path: Path) -> Read:
    """Return a function that reads one file by the recipe: (place, fields or reason) of each row."""

    def rows(name: str, content: bytes | str | list[Any], *sets: str) -> list[tuple[str, Any]]:
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        (tmp_path / "data.json").write_text(json.dumps({"hub": None, "files": [{"dest": name}]}))
        config = resolve(load_recipe(ROOT, "dataset"), sets=list(sets))
        make = modules.sources.Maker(config)
        found = list(modules.sources.read(str(tmp_path), str(tmp_path), make, config["chunk_chars"]))
        return [(place, item.reason if isinstance(item, modules.sources.Refused) else item.fields) for place, item in found]

    return rows


LINE = json.dumps(QA)
GOOD: list[tuple[str, bytes | str, int]] = [
    ("plain.jsonl", LINE + "\n" + LINE, 2),
    ("crlf.jsonl", f"{LINE}\r\n\r\n{LINE}\r\n", 2),
    ("bom.jsonl", b"\xef\xbb\xbf" + LINE.encode(), 1),
    ("blank.ndjson", f"\n\n{LINE}\n   \n", 1),
    ("list.json", json.dumps([QA, QA, QA], indent=2), 3),
    ("strings.json", json.dumps(["A text of its own.", "Another text of its own."]), 2),
    ("lines.json", LINE + "\n" + LINE, 2),
    ("nulls.jsonl", json.dumps({**QA, "input": None, "system": None, "tags": None, "history": []}), 1),
    ("nan.jsonl", LINE[:-1] + ', "score": NaN, "timestamp": Infinity}', 1),
    ("nested.jsonl", json.dumps({**QA, "meta": {"a": [{"b": {"c": [1, 2, {"d": None}]}}]}}), 1),
    ("chat.jsonl", json.dumps(CHAT), 1),
    ("sharegpt.json", json.dumps([{"conversations": [{"from": "human", "value": "Are you there?"}, {"from": "gpt", "value": "Yes."}]}]), 1),
    ("table.csv", 'instruction,output,note\r\n"Say, please","Two\nlines of it",x\r\n', 1),
    ("table.tsv", "prompt\tcompletion\nWhat is it?\tA table.\n", 1),
    ("semicolons.csv", "instruction;output\r\nSay 1,5 of it;It is 1,5\r\n", 1),
    ("one.json", json.dumps(CHAT, indent=1), 1),
    ("over-lines.json", f"{json.dumps(QA, indent=1)}\n{json.dumps(CHAT, indent=1)}", 2),
    ("wrapped.json", json.dumps({"version": 2, "memories": [MEMORY, MEMORY], "user": {"id": 1}}, indent=1), 2),
    ("one-line.json", b"\xef\xbb\xbf" + json.dumps({"results": [{"id": "a", "memory": "Likes to walk at night."}]}).encode(), 1),
    ("bom.csv", b"\xef\xbb\xbftext\nA text in a table\n", 1),
    ("memories.csv", 'timestamp,content,tags,entities\n2024-01-02,We walked home,"a;b","[""Ada""]"\n', 1),
    ("large.jsonl", json.dumps({"text": "many different words " + " ".join(map(str, range(20_000)))}) + "\n" + LINE, 2),
    ("emoji.jsonl", '{"text": "A family \\ud83d\\udc68\\u200d\\ud83d\\udc69 walks home"}', 1),
    ("notes.md", "---\ndate: 2024-05-06\ntags: [a, b]\n---\n# One\n\nA first text.\n\n# Two\n\nA second text.\n", 2),
    ("notes.txt", b"\xef\xbb\xbfA text,\r\nin two lines.\r\n", 1),
]


@pytest.mark.parametrize(("name", "content", "count"), GOOD, ids=[each[0] for each in GOOD])
def test_files_as_people_have_them_give_their_rows(read: Read, name: str, content: bytes | str, count: int) -> None:
    found = read(name, content, "min_letters=0")
    assert len(found) == count and all(isinstance(fields, dict) for _, fields in found), found


FLAWED: list[tuple[str, bytes | str, str, str]] = [
    ("latin1.jsonl", LINE.encode() + b'\n{"text": "caf\xe9"}', "latin1.jsonl:2", "not UTF-8: byte 0xe9"),
    ("twice.jsonl", LINE + '\n{"text": "a", "text": "b"}', "twice.jsonl:2", 'the key "text" is given twice'),
    ("torn.jsonl", LINE + '\n{"text": "a', "torn.jsonl:2", "not valid JSON"),
    ("number.jsonl", LINE + "\n7", "number.jsonl:2", "must be an object"),
    ("half.jsonl", LINE + '\n{"text": "half \\ud800 of a pair"}', "half.jsonl:2", "surrogate"),
    ("deep.jsonl", LINE + "\n" + '{"text":' + "[" * 100_000, "deep.jsonl:2", "not valid JSON"),
    ("latin.jsonl", LINE + "\n{}", "latin.jsonl:2", "fits no known form"),
    ("silent.jsonl", LINE + '\n{"content": " ", "timestamp": 1}', "silent.jsonl:2", "the memory says nothing"),
    ("columns.csv", "instruction,output\nx of it,some y\na,b,c\n", "columns.csv:3", "3 columns, but the first line names 2"),
    ("picture.jsonl", LINE + "\n" + json.dumps({**QA, "image": "x.png"}), "picture.jsonl:2", "'image' is no text"),
    ("pair.jsonl", LINE + '\n{"chosen": "good answer", "rejected": "bad answer"}', "pair.jsonl:2", "no 'prompt'"),
]


@pytest.mark.parametrize(("name", "content", "place", "reason"), FLAWED, ids=[each[0] for each in FLAWED])
def test_a_row_that_cannot_be_read_is_told_by_file_and_line(read: Read, name: str, content: bytes | str, place: str, reason: str) -> None:
    (_, first), (at, said) = read(name, content)[:2]
    assert isinstance(first, dict) and at == place and reason in said


BROKEN = [
    ("utf16.jsonl", LINE.encode("utf-16"), "utf16.jsonl:1:1: this is UTF-16 text"),
    ("zip.jsonl", b"PK\x03\x04....", "zip.jsonl:1:1: this is a compressed file"),
    ("empty.jsonl", b"", "empty.jsonl:1:1: no row in this file"),
    ("empty.md", b"\n\n", "empty.md:1:1: no text in this file"),
    ("object.json", b'{\n "data": []}', "object.json:1:1: no row in this file"),
    (
        "lists.json",
        b'{"data": [{"text": "words"}],\n "rows": []}',
        "lists.json:2:10: the object holds two lists of rows, 'data' and 'rows'",
    ),
    ("both.json", b'{"data": [{"text": "words"}],\n "prompt": "p"}', "both.json:2:16: the object holds rows in 'data' and is a row itself"),
    ("again.json", b'{"a": 1,\n "a": 2}', 'again.json:2:7: the key "a" is given twice'),
    ("cut.json", b'{"memories": [{"content": "words"},\n', "cut.json:2:1: not valid JSON: the list ends here"),
    ("comma.json", b'{"a": 1,\n}', "comma.json:2:1: not valid JSON: expected the name of a field"),
    ("what.docx", b"x", "what.docx:1:1: cannot tell how to read it"),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN, ids=[each[0] for each in BROKEN])
def test_a_file_that_cannot_be_read_on_ends_the_build_with_its_place(
    read: Read, modules: Any, name: str, content: bytes, said: str
) -> None:
    with pytest.raises(modules.rows.RowError) as error:
        read(name, content)
    assert str(error.value).startswith(said)


def test_a_memory_becomes_a_row_that_asks_for_it(read: Read, modules: Any) -> None:
    sets = ("persona=Ines", "instruction=Speak as {persona}.", "questions=What of {entity} on {date}?")
    assert read("m.json", json.dumps([MEMORY]), *sets) == [
        ("m.json:1", {"instruction": "Speak as Ines.", "input": "What of Ada on March 5, 2024?", "output": "We rowed to the island."})
    ]
    ((_, drawn),) = read("m.json", json.dumps([MEMORY]))
    assert drawn in [fields for _, fields in read("m.json", json.dumps([MEMORY, MEMORY]))] and drawn["output"] == MEMORY["content"]
    with pytest.raises(modules.memories.WrongTemplate, match=r"\{name\} stands for nothing"):
        read("m.json", json.dumps([MEMORY]), "questions=Who is {name}?")


@pytest.mark.parametrize(
    ("value", "at"),
    [("2024-01-01", 1704067200), ("2024-01-01T01:00:00+01:00", 1704067200), (1704067200, 1704067200), (1704067200000, 1704067200),
     ("1704067200", 1704067200), ("yesterday", None), (float("nan"), None), (True, None), ([], None), (-5, None), (1e300, None)],
)  # fmt: skip
def test_times_are_read_as_people_write_them_or_said_to_be_unknown(modules: Any, value: Any, at: float | None) -> None:
    assert modules.memories.time_of({"timestamp": value}) == (at, at is None)


def test_preferences_of_all_tools_become_prompt_chosen_rejected(read: Read) -> None:
    user, good, bad = (
        {"role": role, "content": text} for role, text in (("user", "Why is it so?"), ("assistant", "Good."), ("assistant", "Bad."))
    )
    text = {"prompt": "Why is it so?", "chosen": "Good.", "rejected": "Bad."}
    talks = {"prompt": [user], "chosen": [good], "rejected": [bad]}
    rows = [
        text, talks, {"chosen": [user, good], "rejected": [user, bad]},
        {**text, "chosen": [user, good], "rejected": [user, bad]},
        {"conversations": [{"from": "human", "value": "Why is it so?"}], "chosen": {"from": "gpt", "value": "Good."},
         "rejected": {"from": "gpt", "value": "Bad."}},
        {**text, "rejected": "Good."},
    ]  # fmt: skip
    found = [fields for _, fields in read("p.jsonl", rows)]
    assert found == [text, talks, talks, talks, talks, "chosen and rejected are the same"]


def test_texts_are_cleaned_and_what_is_private_is_masked_by_choice(read: Read) -> None:
    said = "\ufb01ne\u200b\x00 text: a.b@example.org, +49 170 1234567, 4111 1111 1111 1111, 192.168.0.1, "
    said += "DE89 3704 0044 0532 0130 00, 2024-01-02"
    (_, plain), (_, kept) = read("t.jsonl", [{"text": said}])[0], read("k.jsonl", [{"text": said}], "mask_pii=all")[0]
    assert plain == {"text": said.replace("\ufb01", "fi").replace("\u200b\x00", "")}
    assert kept == {"text": "fine text: [EMAIL], [PHONE], [CARD], [IP], [IBAN], 2024-01-02"}


def test_rows_that_teach_nothing_are_dropped_with_the_reason(read: Read) -> None:
    rows = [
        {"text": "short"},
        {"text": "=" * 50},
        {"text": "again and again\n" * 50},
        {"text": "I cannot help with that."},
        {"text": "fine and long", "weight": 0},
    ]
    assert [reason for _, reason in read("q.jsonl", rows, "drop_matching=^I cannot")] == [
        "shorter than min_chars", "fewer letters than min_letters", "more repetition than max_repetition",
        "matches drop_matching: ^I cannot", "weight 0: not learnt",
    ]  # fmt: skip


def test_all_forms_but_text_can_become_conversations(read: Read) -> None:
    weighted = {
        "messages": [*CHAT["messages"], {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "No.", "weight": 0}]
    }
    found = [fields for _, fields in read("c.jsonl", [QA, weighted, {"text": "stays a text"}], "form=messages")]
    assert [message["role"] for message in found[0]["messages"]] == ["user", "assistant"] and found[2] == {"text": "stays a text"}
    assert found[1] == weighted


def test_pieces_of_a_document_begin_where_their_line_says_and_keep_code_whole(read: Read) -> None:
    text = "# Head\n\nFirst words.\n\n```\ncode\n\n# no heading\n```\n\n## Next\n\n" + "long words " * 30
    found = read("d.md", text, "chunk_chars=120")
    assert [place for place, _ in found] == ["d.md:1", "d.md:11", "d.md:13", "d.md:13", "d.md:13"]
    assert found[0][1]["text"].endswith("```\ncode\n\n# no heading\n```")


def node(name: str, parent: str | None, role: str, *parts: Any, **more: Any) -> dict[str, Any]:
    content = {"content_type": more.pop("kind", "text"), "parts": list(parts)}
    message = {"author": {"role": role}, "content": content, "weight": 1.0, "recipient": "all", "metadata": {}, **more}
    return {"id": name, "parent": parent, "children": [], "message": message if role else None}


def export(last: str | None, *nodes: dict[str, Any]) -> dict[str, Any]:
    mapping = {each["id"]: each for each in nodes}
    for each in nodes:
        if each["parent"]:
            mapping[each["parent"]]["children"].append(each["id"])
    return {"title": "A talk", "create_time": 1.7e9, "mapping": mapping, "current_node": last, "conversation_id": "1"}


def test_conversations_of_chatgpt_are_the_branch_read_last_up_to_what_is_no_text(read: Read) -> None:
    tree = [
        node("root", None, ""), node("system", "root", "system", "", weight=0),
        node("asked", "system", "user", "Why is the sky blue?"), node("old", "asked", "assistant", "An answer that was made anew."),
        node("mind", "asked", "assistant", kind="thoughts"), node("new", "mind", "assistant", "It scatters", "blue light."),
    ]  # fmt: skip
    picture = node("picture", "new", "user", {"content_type": "image_asset_pointer"}, "What is it?", kind="multimodal_text")
    search = node("search", None, "assistant", "search()", recipient="web")
    rows = [
        export("new", *tree),
        export(None, *tree[:3], *tree[4:], picture, node("seen", "picture", "assistant", "A pear.")),
        export(None, search),
    ]
    talk = {"messages": [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", "content": "It scatters\nblue light."}]}
    found = read("conversations.json", json.dumps(rows))
    assert [fields for _, fields in found[:2]] == [talk, talk]
    assert found[2] == ("conversations.json:1", "the conversation has no answer in text before its first picture, file or tool")


def test_conversations_of_claude_are_read_up_to_a_file(read: Read) -> None:
    said = [
        {"sender": "human", "text": "Who wrote it?", "content": [], "files": []},
        {
            "sender": "assistant",
            "text": "",
            "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Ada wrote it."}],
        },
        {"sender": "human", "text": "And this?", "attachments": [{"file_name": "a.pdf"}]},
        {"sender": "assistant", "text": "Not she."},
    ]
    talk = [{"role": "user", "content": "Who wrote it?"}, {"role": "assistant", "content": "Ada wrote it."}]
    assert [fields for _, fields in read("c.json", json.dumps([{"uuid": "1", "chat_messages": said}]))] == [{"messages": talk}]
