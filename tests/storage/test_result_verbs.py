"""`invoke results`, `results.show`, `results.verify`: from the bucket of a stack alone, as a fresh clone on any machine has it."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.storage.conftest import PART, Workspace, here, places_at
from trainyard.config import Places
from trainyard.errors import ForeignResult, StoreError, UserError
from trainyard.runs.context import CommandContext
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import results
from trainyard.runs.verbs.fetch import fetch, tell
from trainyard.storage import bucket, markers
from trainyard.storage.client import StoreSettings, s3
from trainyard.storage.commit import commit
from trainyard.storage.deliver import DeliveryPatience
from trainyard.storage.manifest import Keep, ResultKey
from trainyard.storage.markers import Claim

HASTE = DeliveryPatience(rounds=3, tries=3, backoff=0.01, pause=lambda _: None)
FIRST, SECOND, ANNAS = ResultKey("greg", "first", 1), ResultKey("greg", "first", 2), ResultKey("anna", "first", 1)
LONG = ResultKey("anna", "a-name-that-is-much-longer-than-a-line-of-eighty-columns-would-like", 1)


@dataclass(slots=True)
class Clone:
    """A fresh clone of a repository whose stack has a bucket; it has no record of any run."""

    context: CommandContext
    screen: io.StringIO

    def said(self) -> str:
        text = self.screen.getvalue()
        self.screen.seek(0)
        self.screen.truncate()
        return text


def fresh_clone(root: Path, outside: Places, settings: StoreSettings, user: str = "greg") -> Clone:
    root.mkdir(parents=True, exist_ok=True)
    (root / "Pulumi.yaml").write_text("name: trainyard\nruntime: python\n")
    (root / "Pulumi.local.yaml").write_text(f"config:\n  trainyard:bucket: {settings.bucket}\n  trainyard:user: {user}\n")
    places = Places(root=root, home=root / ".trainyard", outside=outside.outside, settings=root / "home")
    screen = io.StringIO()
    return Clone(CommandContext(places, {**os.environ}, Ui(stream=screen)), screen)


@pytest.fixture
def clone(tmp_path: Path, store_places: Places, settings: StoreSettings) -> Clone:
    return fresh_clone(tmp_path / "clone", store_places, settings)


def claimed(settings: StoreSettings, root: Path, key: ResultKey, time: str = "2026-11-24T10:12:34Z", recipe: str = "lora") -> str:
    token = f"token-of-{key.user}-{key.attempt}"
    assert markers.claim_attempt(settings, places_at(root), key, Claim(token, key.user, f"{key.user}s-laptop", time, recipe))
    return token


def committed(settings: StoreSettings, pod: Workspace, key: ResultKey, keep: Keep | None = None) -> None:
    token = claimed(settings, pod.root, key)
    commit(settings, here(), key, pod.output, ["model/**"], [], token=token, keep=keep, part_size=PART, patience=HASTE)


def test_the_table_tells_every_attempt_of_every_user_at_80_columns(clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    committed(settings, pod, FIRST)
    committed(settings, pod, SECOND, Keep("exited 1", 1))
    claimed(settings, pod.root, LONG, recipe="command")
    s3(settings).put_object(Bucket=settings.bucket, Key="models/anna/cut/1/model/half", Body=b"half")
    s3(settings).put_object(Bucket=settings.bucket, Key="checkpoints/greg/first/2/step-10/model", Body=b"c" * 1000)
    s3(settings).put_object(Bucket=settings.bucket, Key="checkpoints/greg/first/2/step-10/_CHECKPOINT", Body=b"{}")

    store, rows = results.list_rows(clone.context, "local", None)
    lines = results.table(store, rows)

    assert {row.result: row.kind for row in rows} == {
        "greg/first/1": "success", "greg/first/2": "kept", "anna/cut/1": "unfinished", str(LONG): "claimed",
    }  # fmt: skip
    assert all(len(line) <= 80 for line in lines)
    assert ["greg/first/1", "2026-11-24", "10:12", "success", "5.2", "MB", "lora"] in [line.split() for line in lines]
    listed = [item for item in bucket.listing(settings, FIRST.prefix) if "/_" not in item.key]
    assert {row.result: row.bytes for row in rows}["greg/first/1"] == sum(item.size for item in listed), "markers are no result"
    assert lines[-2].startswith("4 attempts in s3://") and "1.0 kB of checkpoints" in lines[-1]
    assert [row.checkpoints for row in rows if row.result == "greg/first/2"] == [["step-10"]]
    assert [row.result for row in results.list_rows(clone.context, "local", "anna")[1]] == [str(LONG), "anna/cut/1"]


def test_the_table_names_once_what_seals_those_that_their_pods_committed_alone(
    clone: Clone, settings: StoreSettings, pod: Workspace
) -> None:
    assert "recover" not in "\n".join(results.table(*results.list_rows(clone.context, "local", None)))
    for number in (1, 2):
        s3(settings).put_object(Bucket=settings.bucket, Key=f"models/anna/cut/{number}/_POD_COMMITTED", Body=b"{}")
    lines = results.table(*results.list_rows(clone.context, "local", None))
    assert lines[-1] == "2 committed by the pod alone, to be sealed: invoke recover" and "\n".join(lines).count("recover") == 1


def test_a_result_is_shown_with_files_left_out_logs_owner_and_the_commands_that_fetch_it(
    clone: Clone, settings: StoreSettings, pod: Workspace
) -> None:
    committed(settings, pod, FIRST)

    results.show(clone.context, "local", "first", as_json=False)
    text = clone.said()

    assert "is         success" in text and "claimed by greg on gregs-laptop" in text and "recipe lora" in text
    assert "model/model.safetensors" in text and "train.log" in text and "checkpoints/checkpoint-10/optimizer.pt" in text
    assert "invoke download greg/first/1 out/downloads/first" in text
    assert f"aws s3 sync {settings.url}/models/greg/first/1/model/ out/downloads/first" in text, "what a download takes, too"
    assert [line for line in text.splitlines() if len(line) > 80 and "://" not in line] == []
    data = results.show(clone.context, "local", f"{settings.url}/models/greg/first/1/model/", as_json=True)
    assert data is not None and {entry["path"] for entry in data["entries"]} >= {"model/empty", "model/config.json"}
    assert json.loads(json.dumps(data))["token"] == "token-of-greg-1" and data["problem"] == ""


def test_what_was_left_out_of_a_folder_is_one_line_and_what_is_missed_is_named(
    clone: Clone, settings: StoreSettings, pod: Workspace
) -> None:
    for number in range(20):
        pod.write(f"output/checkpoints/checkpoint-30/shard-{number}", b"12345")
    for number in range(40, 70):
        pod.write(f"output/checkpoints/checkpoint-{number}/shard", b"12345")
    for name in ("one", "two"):
        (pod.root / "output" / "model" / name).symlink_to("/etc/passwd")
    committed(settings, pod, FIRST)

    results.show(clone.context, "local", "first", as_json=False)
    text = clone.said()

    assert "  100 B  checkpoints/checkpoint-30/ (20 files): " in text and "shard-" not in text
    assert "  model/one: a link to outside" in text and "  model/two: a link to outside" in text
    assert text.count("/checkpoint-") <= 20 and " more places (--json names them)" in text


def test_what_a_pod_has_committed_alone_is_shown_as_such_with_the_command_that_seals_it(
    clone: Clone, settings: StoreSettings, pod: Workspace
) -> None:
    claimed(settings, pod.root, FIRST)
    for name in ("_pod.tar", "_POD_COMMITTED"):
        s3(settings).put_object(Bucket=settings.bucket, Key=FIRST.prefix + name, Body=b"x")

    results.show(clone.context, "local", "first", as_json=False)
    text = clone.said()

    assert "is         pod-committed" in text and "by its pod alone" in text and "PROBLEM" not in text
    assert text.rstrip().endswith("invoke download greg/first/1 out/downloads/first")


def test_another_runs_marker_does_not_hide_what_the_runs_own_pod_has_committed_alone(
    clone: Clone, settings: StoreSettings, pod: Workspace
) -> None:
    claimed(settings, pod.root, FIRST)
    claim = markers.claim_of(settings, FIRST)
    assert claim is not None
    for name, token in (("_pod.tar", ""), ("_POD_COMMITTED", claim.token), ("_SUCCESS", "another")):
        body = json.dumps({"token": token, "manifest_sha256": "0" * 64}).encode()
        s3(settings).put_object(Bucket=settings.bucket, Key=FIRST.prefix + name, Body=body)

    results.show(clone.context, "local", "first", as_json=False)
    text = clone.said()

    assert "is         foreign" in text and "its token is 'another'" in text
    assert f"its own    {settings.url}/{FIRST.pod_tar}: what its pod has committed alone" in text and "aws s3 sync" in text
    s3(settings).put_object(Bucket=settings.bucket, Key=FIRST.pod_committed, Body=b'{"token": "forged"}')
    results.show(clone.context, "local", "first", as_json=False)
    assert "its own" not in clone.said()


def test_attempts_after_the_one_that_is_shown_are_named(clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    committed(settings, pod, FIRST, Keep("cancelled", 143))
    claimed(settings, pod.root, SECOND)
    s3(settings).put_object(Bucket=settings.bucket, Key=SECOND.prefix + "_POD_COMMITTED", Body=b"{}")

    results.show(clone.context, "local", "first", as_json=False)

    assert "\nlater      greg/first/2 is pod-committed\n" in clone.said()
    data = results.show(clone.context, "local", "first", as_json=True)
    assert data is not None and data["later"] == [{"result": "greg/first/2", "kind": "pod-committed"}]


def test_a_name_that_is_claimed_and_has_no_result_yet_says_who_claimed_it(clone: Clone, settings: StoreSettings, tmp_path: Path) -> None:
    claimed(settings, tmp_path, FIRST)
    for name in ("first", "greg/first", "greg/first/1"):
        with pytest.raises(UserError, match=r"attempt 1 of greg/first has no result in .*: claimed by greg on .*may be at work"):
            fetch(clone.context, "local", name, tmp_path / "to")
    assert results.table(settings, [], "Anna") == [f"{settings.url} holds no run of anna"]


def test_no_download_is_named_for_what_no_manifest_proves(clone: Clone, settings: StoreSettings) -> None:
    s3(settings).put_object(Bucket=settings.bucket, Key="models/anna/cut/1/model/half", Body=b"half")
    for key in ("checkpoints/anna/cut/1/\u202eab/_CHECKPOINT", "logs/anna/cut/1/\u202eab"):
        s3(settings).put_object(Bucket=settings.bucket, Key=key, Body=b"{}")
    results.show(clone.context, "local", "anna/cut", as_json=False)
    said = clone.said()
    assert "invoke download" not in said and "aws s3 sync" in said
    assert "checkpoints \\u202eab" in said and ": \\u202eab (2 B)" in said and "\u202e" not in said, "names that others chose are text"


def test_a_bucket_whose_keys_are_not_here_is_not_called_none(clone: Clone) -> None:
    root = clone.context.places.root
    context = CommandContext(clone.context.places, {"HOME": str(root)}, clone.context.ui)
    (root / "Pulumi.far.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:store: r2\n  trainyard:bucket: theirs\n")
    (root / "Pulumi.none.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:bucket: none\n")

    with pytest.raises(UserError, match="are in bucket 'theirs', and no keys of its store are set here"):
        results.list_rows(context, "far", None)
    with pytest.raises(UserError, match="stack 'none' has no bucket"):
        results.list_rows(context, "none", None)


def test_a_name_means_the_newest_success_and_of_several_users_ones_own(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path, store_places: Places
) -> None:
    for key in (FIRST, ANNAS):
        committed(settings, pod, key)
    committed(settings, pod, SECOND, Keep("exited 1", 1))
    third = fresh_clone(tmp_path / "other", store_places, settings, user="bert")

    assert results.chosen(results.stored_attempts(clone.context, settings, "local", "first")).key == FIRST
    assert results.chosen(results.stored_attempts(clone.context, settings, "local", "greg/first/2")).key == SECOND
    with pytest.raises(UserError, match="several users"):
        results.stored_attempts(third.context, settings, "local", "first")
    with pytest.raises(UserError, match="did you mean 'greg/first'"):
        results.stored_attempts(third.context, settings, "local", "greg/frist")
    with pytest.raises(UserError, match="names no run"):
        results.stored_attempts(third.context, settings, "local", "models/")


def test_a_fresh_clone_on_any_machine_downloads_by_every_kind_of_name(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    committed(settings, pod, FIRST)
    names = ["first", "greg/first", "greg/first/1", "models/greg/first/1/model/", f"s3://{settings.bucket}/models/greg/first/1/model"]

    for number, reference in enumerate(names):
        got = tmp_path / str(number)
        taken = fetch(clone.context, None, reference, got)
        tell(clone.context.ui, taken, None)
        assert taken.manifest_sha256 and sorted(taken.paths) == sorted(path for path in got.rglob("*") if path.is_file())
        assert {path.name for path in got.rglob("*") if path.is_file()} == {"model.safetensors", "config.json", "vocab.txt", "empty"}
        assert "attempt 1 of greg/first, claimed by greg on gregs-laptop" in clone.said()


def test_last_is_the_newest_run_of_this_user_that_nobody_has_deleted(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="knows none of greg"):
        fetch(clone.context, None, "last", tmp_path / "none")
    committed(settings, pod, FIRST)
    claimed(settings, pod.root, ANNAS)
    gone = ResultKey("greg", "gone", 1)
    markers.claim_attempt(settings, places_at(pod.root), gone, Claim("t", "greg", "laptop", "2026-11-24T10:12:35Z", "lora"))
    markers.mark_deleted(settings, gone, Claim("t", "greg", "laptop", "2026-11-24T10:12:35Z", "lora"), "2026-11-24T10:12:36Z")

    assert fetch(clone.context, None, "last", tmp_path / "dest").key == FIRST
    results.show(clone.context, "local", "last", as_json=False)
    assert f"{settings.url}/{FIRST.prefix}" in clone.said()
    assert results.check(clone.context, "local", "last", deep=False, as_json=False)[0] == 0


def test_a_bucket_of_which_all_was_deleted_is_listed_as_one_without_runs(clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    gone = Claim("t", "greg", "laptop", "2026-11-24T10:12:35Z", "lora")
    markers.claim_attempt(settings, places_at(pod.root), FIRST, gone)
    markers.mark_deleted(settings, FIRST, gone, "2026-11-24T10:12:36Z")

    store, rows = results.list_rows(clone.context, "local", None)

    assert results.table(store, rows) == [f"{store.url} holds no run; 1 deleted, their numbers stay taken"]


@pytest.mark.parametrize("word", ["greg/first/x", "greg/first/0", "greg/first/" + "9" * 900, "9" * 5000])
def test_what_is_no_attempt_means_none(word: str, clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    committed(settings, pod, FIRST)
    with pytest.raises(UserError):
        results.show(clone.context, "local", word, as_json=False)


def test_a_damaged_manifest_hides_nothing_else_and_the_next_commands_are_told(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    committed(settings, pod, FIRST)
    committed(settings, pod, SECOND)
    s3(settings).put_object(Bucket=settings.bucket, Key=SECOND.manifest, Body=b"{half")

    results.show(clone.context, "local", "first", as_json=False)
    text = clone.said()
    assert "claimed by greg" in text and "PROBLEM" in text and "this is no manifest" in text
    assert "4 files" in text and "model/config.json" in text and "no manifest proves them" in text
    assert "invoke results.verify greg/first/2 --deep" in text and "invoke download greg/first/1 out/downloads/first" in text
    assert results.check(clone.context, "local", "first", deep=False, as_json=False)[0] == 7
    assert "nothing can be proved without its manifest" in clone.said()
    with pytest.raises(StoreError, match="no manifest") as told:
        fetch(clone.context, None, "first", tmp_path / "dir")
    assert "invoke results.verify greg/first/2 --deep" in str(told.value.hint)


def test_a_damaged_object_names_the_commands_that_help(clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path) -> None:
    committed(settings, pod, FIRST)
    committed(settings, pod, SECOND)
    s3(settings).delete_object(Bucket=settings.bucket, Key=SECOND.model + "config.json")

    with pytest.raises(StoreError, match="it is missing now") as told:
        fetch(clone.context, None, "first", tmp_path / "dir")

    assert "invoke results.verify greg/first/2 --deep" in str(told.value.hint)
    assert "invoke download greg/first/1 out/downloads/first" in str(told.value.hint)


def test_a_marker_of_another_run_is_named_where_its_manifest_is_not_there(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    committed(settings, pod, FIRST)
    claimed(settings, pod.root, SECOND)
    body = s3(settings).get_object(Bucket=settings.bucket, Key=FIRST.success)["Body"].read()
    s3(settings).put_object(Bucket=settings.bucket, Key=SECOND.success, Body=body)

    store, rows = results.list_rows(clone.context, "local", None)
    kinds = {row.result: row.kind for row in rows}
    assert (kinds[str(FIRST)], kinds[str(SECOND)]) == ("success", "foreign")
    assert any("foreign" in line for line in results.table(store, rows))
    assert results.check(clone.context, "local", str(SECOND), deep=False, as_json=False)[0] == 7
    results.show(clone.context, "local", str(SECOND), as_json=False)

    assert clone.said().count("_SUCCESS: another run has written it than the one that claimed greg/first/2") == 2
    with pytest.raises(ForeignResult, match=r"another run .* its token is 'token-of'"):
        fetch(clone.context, "local", str(SECOND), tmp_path / "to")


def test_a_marker_that_names_the_right_manifest_and_another_run_is_foreign_to_every_command(
    clone: Clone, settings: StoreSettings, pod: Workspace, tmp_path: Path
) -> None:
    committed(settings, pod, FIRST)
    marker = json.loads(s3(settings).get_object(Bucket=settings.bucket, Key=FIRST.success)["Body"].read())
    s3(settings).put_object(Bucket=settings.bucket, Key=FIRST.success, Body=json.dumps({**marker, "token": "somebodys"}).encode())

    assert [row.kind for row in results.list_rows(clone.context, "local", None)[1]] == ["foreign"]
    assert results.check(clone.context, "local", "first", deep=False, as_json=False)[0] == 7
    said = clone.said()
    assert "its token is 'somebody'" in said and "NOT whole: its marker is not; all 4 files are as the manifest says" in said
    with pytest.raises(ForeignResult, match="its token is 'somebody'"):
        fetch(clone.context, "local", "first", tmp_path / "to")


def test_verify_tells_missing_changed_and_more_and_exits_with_7(clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    committed(settings, pod, FIRST)
    assert results.check(clone.context, "local", "first", deep=False, as_json=False)[0] == 0
    assert "greg/first/1: whole: 4 files" in (said := clone.said()) and "tells no checksum" not in said
    client = s3(settings)
    client.delete_object(Bucket=settings.bucket, Key=FIRST.model + "config.json")
    client.put_object(Bucket=settings.bucket, Key=FIRST.model + "tokenizer/vocab.txt", Body=b"c\nd\n")
    client.put_object(Bucket=settings.bucket, Key=FIRST.prefix + "put-there.txt", Body=b"by somebody")

    for deep in (False, True):
        code, data = results.check(clone.context, "local", "first", deep=deep, as_json=True)
        assert code == 7 and data is not None and not data["whole"]
        assert data["missing"] == ["model/config.json"] and data["extra"] == ["put-there.txt"]
        # VersityGW keeps no CRC32 of an object that was put without one: only the bytes tell, its size is the same.
        assert data["changed"] + data["unproved"] == ["model/tokenizer/vocab.txt"] and (not deep or data["unproved"] == [])

    results.check(clone.context, "local", "first", deep=True, as_json=False)
    assert "CHANGED: model/tokenizer/vocab.txt" in clone.said()


def test_a_seal_that_does_not_hold_is_told(clone: Clone, settings: StoreSettings, pod: Workspace) -> None:
    committed(settings, pod, FIRST)
    client, bucket = s3(settings), settings.bucket
    body = client.get_object(Bucket=bucket, Key=FIRST.manifest)["Body"].read()

    def problem() -> str:
        code, data = results.check(clone.context, "local", "greg/first/1", deep=False, as_json=True)
        assert code == 7 and data is not None
        return str(data["problem"])

    client.put_object(Bucket=bucket, Key=FIRST.manifest, Body=body + b"\n")
    assert "names another _manifest.json" in problem()
    client.delete_object(Bucket=bucket, Key=FIRST.manifest)
    assert "its _manifest.json is missing" in problem()
    client.delete_object(Bucket=bucket, Key=FIRST.success)
    assert "was never committed" in problem()
