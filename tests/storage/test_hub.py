"""A push to the Hugging Face Hub, by its own client, over HTTP to an emulator of its API: proven there, private, gone on with."""

from __future__ import annotations

import http.server
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.storage import hub_emulator
from tests.storage.hub_emulator import CHUNK, TOKEN, HubEmulator
from trainyard.errors import RefusedError, StoreError
from trainyard.pod.files import hash_file
from trainyard.secret import Secret
from trainyard.storage.hub import HubFile, HubPlace, HubPush, push, signed_card
from trainyard.storage.manifest import entry_of

hub_client = pytest.importorskip("huggingface_hub", reason="NO huggingface_hub: deliveries to the Hub were not tried")


CONTENT = {
    "model.safetensors": os.urandom(2 * CHUNK + 5),
    "adapter.bin": b"a" * 1000,
    "config.json": b"{}\n",
    "sub/vocab.txt": b"a\nb\n",
    "empty": b"",
}


@pytest.fixture
def files(tmp_path: Path) -> Mapping[str, HubFile]:
    return written(tmp_path / "model", CONTENT)


def written(folder: Path, content: Mapping[str, bytes]) -> dict[str, HubFile]:
    for name, body in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return {name: HubFile(folder / name, entry_of(hash_file(str(folder / name), 5 << 20, False)[0], name)) for name in content}


WORDS = "---\ntags:\n- trainyard\n---\n\n# first\n"


def pushed(hub: HubEmulator, files: Mapping[str, HubFile], repo: str = "greg/first", token: str = TOKEN, **more: Any) -> HubPush:
    """Push files with a card, as `card` says it, or none where the files have one."""
    text, alone = more.pop("card", WORDS), more.pop("alone", False)
    place = HubPlace(repo=repo, token=Secret(token), endpoint=hub.endpoint, **more)
    with tempfile.TemporaryDirectory() as folder:
        card = None if "README.md" in files else written(Path(folder), {"README.md": signed_card(text).encode()})["README.md"]
        return push(files, place, message="greg/first/1", card=card, alone=alone)


def test_every_file_is_there_with_its_hash_in_a_private_repository_with_a_card(hub: HubEmulator, files: Mapping[str, HubFile]) -> None:
    done = pushed(hub, files)

    repo = hub.repos["greg/first"]
    assert {name: body for name, (body, _) in repo.files.items() if name != "README.md"} == CONTENT
    assert repo.files["model.safetensors"][1] and not repo.files["config.json"][1]
    assert repo.private and not done.public and repo.files["README.md"][0].startswith(b"---\ntags:")
    assert (done.files, done.sent, done.revision) == (6, 6, repo.commits[-1]) and done.url == f"{hub.endpoint}/greg/first"
    assert len([path for _, path in hub.seen if path.startswith("/lfs-storage/")]) == 4, "three parts of the large file, one of the other"


def test_a_second_push_sends_only_what_differs(hub: HubEmulator, files: dict[str, HubFile], tmp_path: Path) -> None:
    pushed(hub, files)
    hub.seen.clear()
    again = pushed(hub, files)
    assert again.sent == 0 and not any("commit" in path or "lfs" in path for _, path in hub.seen)

    files |= written(tmp_path / "other", {"config.json": b'{"changed": 1}\n'})
    third = pushed(hub, files, card=WORDS + "more\n")

    assert third.sent == 2 and hub.repos["greg/first"].files["config.json"][0] == b'{"changed": 1}\n'
    assert b"more" in hub.repos["greg/first"].files["README.md"][0] and len(hub.repos["greg/first"].commits) == 3


def test_a_card_that_a_person_has_edited_stays_until_it_shall_be_replaced(hub: HubEmulator, files: dict[str, HubFile]) -> None:
    pushed(hub, files)
    there = hub.repos["greg/first"].files
    there["README.md"] = (there["README.md"][0].replace(b"# first", b"# mine"), False)

    kept = pushed(hub, files, card=WORDS + "more\n")
    assert kept.card_kept and kept.sent == 0 and b"# mine" in there["README.md"][0]

    pushed(hub, files, card=WORDS + "more\n", alone=True)
    assert b"# first" in there["README.md"][0] and b"more" in there["README.md"][0]


def test_what_else_lies_there_is_told_and_goes_only_where_that_is_asked_for(hub: HubEmulator, files: dict[str, HubFile]) -> None:
    pushed(hub, files)
    there = hub.repos["greg/first"].files
    there[".gitattributes"] = (b"*.bin filter=lfs\n", False)
    del files["adapter.bin"]

    assert pushed(hub, files).others == ("adapter.bin",) and "adapter.bin" in there
    assert pushed(hub, files, alone=True).others == () and "adapter.bin" not in there and ".gitattributes" in there


def test_a_branch_is_made_and_main_stays_as_it_is(hub: HubEmulator, files: dict[str, HubFile]) -> None:
    done = pushed(hub, files, branch="v2")

    repo = hub.repos["greg/first"]
    assert repo.files == {} and set(repo.branches["v2"]) == {*CONTENT, "README.md"}
    assert done.url == f"{hub.endpoint}/greg/first/tree/v2" and pushed(hub, files, branch="v2").sent == 0


@pytest.mark.parametrize("there", [True, False])
def test_who_may_read_it_is_what_was_asked_for_or_nothing_is_sent(there: bool, hub: HubEmulator, files: Mapping[str, HubFile]) -> None:
    hub.repos["greg/first"] = hub_emulator.Repo("greg/first", private=there)

    with pytest.raises(RefusedError, match=f"is there and is {'private' if there else 'public'}; nothing was sent") as refused:
        pushed(hub, files, public=there)
    assert hub.repos["greg/first"].files == {} and "/greg/first/settings" in str(refused.value.hint)
    assert pushed(hub, files, public=not there).public is not there
    assert pushed(hub, files, "greg/new", public=True).public and not hub.repos["greg/new"].private


def test_the_hubs_own_client_reads_back_every_byte(hub: HubEmulator, files: Mapping[str, HubFile], tmp_path: Path) -> None:
    done = pushed(hub, files)

    read = hub_client.HfApi(endpoint=hub.endpoint, token=TOKEN)
    folder = Path(read.snapshot_download("greg/first", revision=done.revision, local_dir=tmp_path / "read"))
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert (folder / "README.md").read_text().startswith(WORDS)


def test_a_card_of_the_model_is_the_card(hub: HubEmulator, files: dict[str, HubFile], tmp_path: Path) -> None:
    pushed(hub, files | written(tmp_path / "peft", {"README.md": b"---\nbase_model: x/y\n---\n"}))

    assert hub.repos["greg/first"].files["README.md"][0] == b"---\nbase_model: x/y\n---\n"


def test_a_repository_that_is_there_and_public_is_told(hub: HubEmulator, files: Mapping[str, HubFile]) -> None:
    hub.repos["greg/first"] = hub_emulator.Repo("greg/first", private=False)

    assert pushed(hub, files).public


@pytest.mark.parametrize("lie", ["forgets", "spoils"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_the_hub_does_not_hold_as_it_was_sent_is_no_delivery(
    lie: str, name: str, hub: HubEmulator, files: Mapping[str, HubFile]
) -> None:
    getattr(hub, lie).add(name)

    with pytest.raises(StoreError, match=f"does not hold what was sent: {name}"):
        pushed(hub, files)


@pytest.mark.parametrize(
    ("token", "repo", "words", "hint"),
    [
        ("hf_wrong", "greg/first", "answered 401", "does not know this HF_TOKEN"),
        (TOKEN, "not-ours/first", "answered 403: You don't have the rights", "may not write there"),
    ],
)
def test_a_refusal_says_what_to_do_and_never_the_token(
    token: str, repo: str, words: str, hint: str, hub: HubEmulator, files: Mapping[str, HubFile]
) -> None:
    with pytest.raises(StoreError, match=words) as refused:
        pushed(hub, files, repo, token)

    assert hint in str(refused.value.hint) and token not in str(refused.value) and not refused.value.passing
    assert repo not in hub.repos


def test_a_push_that_was_cut_off_is_gone_on_with(hub: HubEmulator, files: Mapping[str, HubFile]) -> None:
    hub.faults["/commit/"] = 500
    with pytest.raises(StoreError, match="answered 500") as failed:
        pushed(hub, files)
    assert failed.value.passing and hub.repos["greg/first"].files == {}
    hub.faults.clear()
    hub.seen.clear()

    pushed(hub, files)

    assert hub.repos["greg/first"].files["model.safetensors"][0] == CONTENT["model.safetensors"]
    assert not any(path.startswith("/lfs-storage/") for _, path in hub.seen), "what was sent before is not sent again"


def test_a_hub_that_does_not_answer_is_told_as_that(files: Mapping[str, HubFile]) -> None:
    with pytest.raises(StoreError, match="could not be used") as failed:
        push(files, HubPlace(repo="a/b", token=Secret(TOKEN), endpoint="http://127.0.0.1:9"), message="m", card=None)

    assert failed.value.passing


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"[]"), (200, b"{}"), (200, b"null"), (200, b'{"url": 7}'), (200, b"<html>"), (400, b'{"error": "%s"}' % (b"no " * 300_000))],
)
def test_what_answers_otherwise_than_a_hub_is_told_in_a_few_words(status: int, body: bytes, files: Mapping[str, HubFile]) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        place = HubPlace(repo="a/b", token=Secret(TOKEN), endpoint=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreError, match="the Hub ") as refused:
            push(files, place, message="m", card=None)
        server.shutdown()

    assert len(refused.value.message) < 500 and not refused.value.passing
