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
from tests.recipes.oddfiles import CHAT, FILES, MEMORY, QA, SLACK, TELEGRAM, WHATSAPP, OddFile
from trainyard.recipes.contract import load_recipe
from trainyard.recipes.values import resolve

FOLDERS = (ROOT / "templates" / "dataset", ROOT / "trainyard" / "recipes")
NAMES = (
    "sources",
    "columns",
    "documents",
    "wrapped",
    "talks",
    "exports",
    "memories",
    "pairs",
    "preferences",
    "cleaning",
    "quality",
    "spool",
    "forms",
    "rows",
)
Read = Callable[..., list[tuple[str, Any]]]


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


def named(files: list[OddFile]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("file", files, ids=[each.name for each in files])


@named([each for each in FILES if each.rows and not each.told])
def test_files_as_people_have_them_give_their_rows(read: Read, file: OddFile) -> None:
    found = read(file.name, file.content, "min_letters=0")
    assert len(found) == file.rows and all(isinstance(fields, dict) for _, fields in found), found


@named([each for each in FILES if each.rows is not None and each.told])
def test_a_row_that_cannot_be_read_is_told_by_file_and_line(read: Read, file: OddFile) -> None:
    found = read(file.name, file.content)
    assert [isinstance(fields, dict) for _, fields in found] == [True] * (file.rows or 0) + [False]
    assert found[-1][0] == file.place and file.told in found[-1][1]


@named([each for each in FILES if each.rows is None])
def test_a_file_that_cannot_be_read_on_ends_the_build_with_its_place(read: Read, modules: Any, file: OddFile) -> None:
    with pytest.raises(modules.rows.RowError) as error:
        read(file.name, file.content)
    assert str(error.value).startswith(f"{file.place}: {file.told}")


def test_a_memory_becomes_a_row_that_asks_for_it(read: Read, modules: Any) -> None:
    sets = ("persona=Ines", "instruction=Speak as {persona}.", "questions=What of {entity} on {date}?")
    assert read("m.json", json.dumps([MEMORY]), *sets) == [
        ("m.json:1", {"instruction": "Speak as Ines.", "input": "What of Ada on March 5, 2024?", "output": "We rowed to the island."})
    ]
    ((_, drawn),) = read("m.json", json.dumps([MEMORY]))
    assert drawn in [fields for _, fields in read("m.json", json.dumps([MEMORY, MEMORY]))] and drawn["output"] == MEMORY["content"]
    with pytest.raises(modules.columns.WrongSetting, match=r"\{name\} stands for nothing"):
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
    assert found == [text, talks, talks, talks, talks, "'chosen' and 'rejected' are equal: there is nothing to prefer"]


def test_columns_are_read_under_the_names_that_a_person_says(read: Read, modules: Any) -> None:
    rows = [{"frage": "Was ist das?", "antwort": "Ein Tisch.", "prompt": None}, {"frage": "a", "antwort": "b", "prompt": "taken"}]
    (_, first), (_, second) = read("f.jsonl", rows, "columns=frage=prompt,antwort=completion")
    assert first == {"prompt": "Was ist das?", "completion": "Ein Tisch."}
    assert second == "'frage' cannot become 'prompt' (setting columns): the row has one"
    assert "fits no known form" in read("g.jsonl", [{"question": "a", "answer": "b", "query": "c"}])[0][1]
    with pytest.raises(modules.columns.WrongSetting, match="write THEIRS=OURS"):
        read("f.jsonl", rows, "columns=frage")
    with pytest.raises(modules.columns.WrongSetting, match="is no regular expression"):
        read("f.jsonl", rows, "drop_matching=(")


def test_of_several_files_one_that_cannot_be_begun_is_told_and_left_out(read: Read, modules: Any, tmp_path: Path) -> None:
    for name, content in (("empty.md", b""), ("picture.png", b"x"), ("torn.json", b'[{"text": "some words"}, {')):
        (tmp_path / name).write_bytes(content)
    files = [{"dest": name} for name in ("empty.md", "picture.png", "good.jsonl")]
    config = resolve(load_recipe(ROOT, "dataset"))
    read("good.jsonl", [QA])
    (tmp_path / "data.json").write_text(json.dumps({"hub": None, "files": files}))
    found = list(modules.sources.read(str(tmp_path), str(tmp_path), modules.sources.Maker(config), 2000))
    assert [place for place, _ in found] == ["empty.md:1", "picture.png:1", "good.jsonl:1"]
    assert [item.reason[:12] for _, item in found[:2]] == ["no text in t", "cannot tell "]
    (tmp_path / "data.json").write_text(json.dumps({"hub": None, "files": [*files, {"dest": "torn.json"}]}))
    with pytest.raises(modules.rows.RowError, match=r"torn\.json:1:"):
        list(modules.sources.read(str(tmp_path), str(tmp_path), modules.sources.Maker(config), 2000))


def test_texts_are_cleaned_and_what_is_private_is_masked_by_choice(read: Read) -> None:
    said = "\ufb01ne\u200b\x00 text: a.b@example.org, +49 170 1234567, 4111 1111 1111 1111, 192.168.0.1, "
    said += f"DE89 3704 0044 0532 0130 00, 2024-01-02, hf_{'a1' * 17}, 4111 1111 1111 1112"
    (_, plain), (_, kept) = read("t.jsonl", [{"text": said}])[0], read("k.jsonl", [{"text": said}], "mask_pii=all")[0]
    assert plain == {"text": said.replace("\ufb01", "fi").replace("\u200b\x00", "")}
    assert kept == {"text": "fine text: [EMAIL], [PHONE], [CARD], [IP], [IBAN], 2024-01-02, [KEY], 4111 1111 1111 1112"}


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
    assert [place for place, _ in found] == ["d.md:1", "d.md:11", "d.md:13", "d.md:13 (row 4)", "d.md:13 (row 5)"]
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
    assert found[2] == ("conversations.json:1 (row 3)", "the conversation has no answer in text before its first picture, file or tool")


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


def asked(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user" if number % 2 == 0 else "assistant", "content": text} for number, text in enumerate(turns)]


TOLD = "chat in which nobody is answered"
FIRST, NOW = "At the north yard.\nNear the gate.", asked("And now?", "Still there.")
IPHONE = "\ufeff[14.02.24, 09:00:05] Ann: Where?\n[14.02.24, 09:00:09] Bob: \u200eimage omitted\n[14.02.24, 09:01:00] Bob: At the yard.\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("result.json", json.dumps(TELEGRAM, indent=1), [asked("Where does it stand?", FIRST), NOW, TOLD]),
        ("result.json", json.dumps(TELEGRAM), [asked("Where does it stand?", FIRST), NOW, TOLD]),
        ("all.json", json.dumps({"chats": {"about": "y", "list": [TELEGRAM]}}), [asked("Where does it stand?", FIRST), NOW, TOLD]),
        ("chat.txt", WHATSAPP, [asked("Where does it stand?", "At the north yard: near\n12:30, at the gate."), NOW]),
        ("_chat.txt", IPHONE, [asked("Where?", "At the yard.")]),
        ("2024-01-02.json", json.dumps(SLACK), [asked("Where does it stand?", "At the north yard.")]),
    ],
)  # fmt: skip
def test_a_chat_between_people_becomes_conversations_that_end_where_nobody_writes(
    read: Read, name: str, content: str, expected: list[Any]
) -> None:
    found = [fields for _, fields in read(name, content, "persona=Bob", "min_chars=1")]
    assert [fields if isinstance(fields, str) else fields["messages"] for fields in found] == expected


def test_in_a_group_it_is_said_who_asks_and_a_long_chat_is_cut_behind_an_answer(read: Read) -> None:
    people = ("Ann", "Cid", "Bob")
    said = [
        {"type": "message", "from": people[n % 3], "date_unixtime": str(n), "text": f"message {n} " + "and more words " * 4}
        for n in range(12)
    ]
    found = read(
        "result.json", json.dumps({"type": "private_group", "messages": said}), "persona=Bob", "chunk_chars=100", "max_repetition=1"
    )
    assert len(found) == 4 and all(len(fields["messages"]) == 2 for _, fields in found)
    assert found[1][1]["messages"][0]["content"].splitlines()[1].startswith("Cid: message 4")


def test_a_text_that_only_begins_with_a_date_stays_a_document(read: Read) -> None:
    diary = "2024-01-02 10:00 Dinner: fish, and a walk home.\n"
    assert [fields for _, fields in read("diary.txt", diary, "persona=Bob")] == [{"text": diary.strip()}]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.jsonl.gz", "Unpack it"),
        ("b.xlsx", "as CSV"),
        ("c.PDF", "pdftotext"),
        ("d.ipynb", "nbconvert"),
        ("e.db", "sqlite3"),
        ("f.bin", "Put files"),
    ],
)
def test_a_file_of_another_kind_is_told_with_the_way_to_one_that_is_read(modules: Any, name: str, words: str) -> None:
    assert words in modules.rows.unknown_suffix(name).hint
