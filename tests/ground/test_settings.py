"""Every setting is known in one table: what is wrong in a stack's file is told with its place, before anything is done."""

import ast
import re
from pathlib import Path

import pytest

from trainyard import settings
from trainyard.errors import UserError
from trainyard.storage.client import KINDS

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "trainyard" / "program" / "settings.py"


def written(folder, text, stack="runpod"):
    (folder / f"Pulumi.{stack}.yaml").write_text(text, encoding="utf-8")
    return folder


WRONG = {
    "spot: maybe": ("3:19", "trainyard:spot must be true or false, not 'maybe'"),
    "gpu_count: two": ("3:24", "must be a whole number, not 'two'"),
    "gpu_count: 1.5": ("3:24", "must be a whole number"),
    "gpu_count: 0": ("3:24", "must be at least 1, not 0"),
    "hours: .nan": ("3:20", "must be a number"),
    "hours: -1": ("3:20", "must be more than 0, not -1"),
    "hours: 0": ("3:20", "must be more than 0, not 0"),
    "budget: 0": ("3:21", "must be more than 0, not 0"),
    "bucket: ../x": ("3:21", "must look like my-results-1, not '../x'"),
    "bucket: My_Bucket": ("3:21", "must look like my-results-1"),
    "hours: 1000": ("3:20", "must be at most 744"),
    "hours:": ("3:3", "trainyard:hours has no value"),
    "max_price: [1]": ("3:24", "must be a number, not a list"),
    "max_price: 1e999": ("3:24", "must be a number"),
    "gpu: {a: 1}": ("3:18", "must be a text or a list of texts, not a map"),
    "gpu: [A, [B]]": ("3:18", "must be a text or a list of texts"),
    "gpu: true": ("3:18", "must be a text or a list of texts, not true"),
    "image: [x]": ("3:20", "must be a text, not a list"),
    "image: ''": ("3:20", "must be a text, not ''"),
    "lifecycle: [tmp]": ("3:24", "must be a list of 'name: value' blocks"),
    "pod_env: [a]": ("3:22", "must be a map of names and values"),
    "pod_env: {'A B': x}": ("3:22", "must look like NAME, not 'A B'"),
    "pod_secrets: hf token": ("3:26", "must look like NAME"),
    "min_cuda: new": ("3:23", "must look like 13.0, not 'new'"),
    "env_id: xyz": ("3:21", "must look like a0533aa1"),
    "store: gcs": ("3:20", "must be one of local, runpod, aws, r2, s3, not 'gcs'"),
    "engine: builtn": ("3:21", "not 'builtn' (did you mean 'builtin'?)"),
    "upload_consent: maybe": ("3:29", "must be one of ask, always, never"),
    "limit_action: stop": ("3:27", "must be one of block, warn"),
    "cloud: lokal": ("3:20", "not 'lokal' (did you mean 'local'?)"),
    "gpus: A": ("3:3", "unknown setting 'gpus' (did you mean 'gpu'?)"),
    "max_price: {secure: v1:abc}": ("3:24", "it cannot be 'secure'"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_setting_is_refused_with_its_place(tmp_path, line):
    place, says = WRONG[line]

    with pytest.raises(UserError) as caught:
        settings.load(written(tmp_path, f"config:\n\n  trainyard:{line}\n"), "runpod")

    assert str(caught.value).startswith(f"Pulumi.runpod.yaml:{place}: "), str(caught.value)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("confg:\n  trainyard:cloud: local\n", "1:1", "unknown key 'confg' (did you mean 'config'?)"),
        ("config:\n  gpu: A\n", "2:3", "'gpu' has no 'trainyard:' before it: write 'trainyard:gpu'"),
        ("config:\n  trainyrad:gpu: A\n", "2:3", "unknown key 'trainyrad:gpu' (did you mean 'trainyard:gpu'?)"),
        ("config:\n  trainyard:config:gpu: A\n", "2:3", "unknown setting 'config:gpu'"),
        ("config: a\n", "1:1", "'config' must hold"),
        ("config:\n  - a\n", "1:1", "'config' must hold"),
        ("config:\n  trainyard:gpu: A\n  trainyard:gpu: B\n", "3:3", "given twice"),
        ("config:\n  trainyard:image: a\n  trainyard:template: b\n", "3:3", "given both"),
        ("config:\n  trainyard:pods: 1\n", "2:3", "needs the hours of its lease"),
        ("config:\n  trainyard:gpu: !!int x\n", "1:1", "not valid YAML"),
        ("config:\n  trainyard:gpu: \x01\n", "1:1", "not valid YAML"),
        ("config:\n  trainyard:gpu: a\0b\n", "2:19", "NUL byte"),
        ("a: " + "[" * 3000, "1:1", "nested too deeply"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path, text, place, says):
    with pytest.raises(UserError) as caught:
        settings.load(written(tmp_path, text), "runpod")

    assert str(caught.value).startswith(f"Pulumi.runpod.yaml:{place}: "), str(caught.value)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("config: {}\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        (b"# caf\xe9\nconfig: {}\n", "Pulumi.runpod.yaml:1:6: this is no UTF-8 text"),
    ],
)
def test_a_file_of_another_encoding_is_named_so(tmp_path, data, says):
    (tmp_path / "Pulumi.runpod.yaml").write_bytes(data)

    with pytest.raises(UserError) as caught:
        settings.load(tmp_path, "runpod")

    assert says in str(caught.value)


def test_values_arrive_typed_also_as_pulumi_writes_them(tmp_path):
    text = """config:
  trainyard:gpu: A
  trainyard:regions: '["EU", "US"]'
  trainyard:gpu_count: "2"
  trainyard:spot: "false"
  trainyard:max_price: "3.5"
  trainyard:hours: 2
  trainyard:min_cuda: 13.0
  trainyard:pod_env: {A: x, B: 1, C: true}
  trainyard:registry: {secure: v1:abc}
  trainyard:lifecycle: [{prefix: tmp/, expire_days: 3}]
  aws:region: x
encryptionsalt: v1:x
"""

    assert settings.load(written(tmp_path, text), "runpod") == {
        "gpu": ["A"], "regions": ["EU", "US"], "gpu_count": 2, "spot": False, "max_price": 3.5, "hours": 2, "min_cuda": "13.0",
        "pod_env": {"A": "x", "B": "1", "C": "true"}, "registry": {"secure": "v1:abc"}, "lifecycle": [{"prefix": "tmp/", "expire_days": 3}],
    }  # fmt: skip


def test_the_cloud_of_a_stack_is_its_setting_else_its_name(tmp_path):
    assert settings.cloud_of(written(tmp_path, "", "runpod"), "runpod") == "runpod"
    assert settings.cloud_of(written(tmp_path, "config:\n  trainyard:cloud: runpod\n", "big"), "big") == "runpod"
    with pytest.raises(UserError, match="cloud is missing, and stack 'other' has no cloud's name"):
        settings.load(written(tmp_path, "", "other"), "other")


def test_a_misspelt_wish_does_not_keep_a_pod_from_being_ended(tmp_path):
    written(tmp_path, "confg: 1\nconfig:\n  trainyard:cloud: runpod\n  trainyard:spot: maybe\n")

    assert settings.cloud_of(tmp_path, "runpod") == "runpod"


def test_the_program_and_the_verbs_know_the_same_settings():
    source = ast.parse(PROGRAM.read_text())
    readers = {"text", "flag", "number", "whole", "texts", "mapping", "mappings"}
    found: dict[str, str] = {}
    others: set[str] = set()
    for function in source.body:
        if not isinstance(function, ast.FunctionDef) or function.name not in ("environment_settings", "_pod"):
            continue
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                words = [word.value for word in call.args if isinstance(word, ast.Constant)]
                if call.func.attr in readers:
                    found[words[0]] = call.func.attr
                elif call.func.attr == "done":
                    others |= set(words)
    limits = {"limit_day", "limit_week", "limit_month", "limit_action"}

    assert set(found) | others | limits == set(settings.SETTINGS)
    assert found == {name: settings.SETTINGS[name].kind for name in found}


def test_choices_are_those_of_the_program_and_of_the_stores():
    names = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(PROGRAM.read_text()).body
             if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)}  # fmt: skip

    assert (names["ENGINES"], names["STORES"], names["CONSENTS"]) == (settings.ENGINES, settings.STORES, settings.CONSENTS)
    assert settings.STORES == KINDS


@pytest.mark.parametrize("path", sorted(ROOT.glob("Pulumi.*.yaml")), ids=lambda path: path.name)
def test_the_settings_that_are_shipped_are_right_and_what_they_show_in_comments_is_known(path):
    settings.load(ROOT, path.name.split(".")[1])
    commented = [line for line in path.read_text().splitlines() if line.strip().startswith("# trainyard:")]

    assert {name for line in commented for name in re.findall(r"trainyard:(\w+)", line)} <= set(settings.SETTINGS)


def test_the_page_of_settings_names_each_with_what_it_is_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", (ROOT / "docs" / "settings.md").read_text(), re.M)

    assert rows == [(each.name, settings.described(each), each.says) for each in settings.SETTINGS.values()]
