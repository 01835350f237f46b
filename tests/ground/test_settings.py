"""Every setting is known in one table: what is wrong in a stack's file is told with its place, before anything is done."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from trainyard import yamlfile
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.provider.endpoint import EndpointInputs
from trainyard.provider.lease import LeaseInputs
from trainyard.provider.model import properties
from trainyard.provider.pod import PodInputs
from trainyard.remote.keys import new_ssh_key
from trainyard.settings import page, reader
from trainyard.settings.setting import Encrypted
from trainyard.settings.table import RUN_SETTINGS, SETTINGS, STORES, for_run
from trainyard.stacks.facade import settings_of
from trainyard.storage.client import KINDS

ROOT = Path(__file__).resolve().parents[2]


def written(folder: Path, text: str, stack: str = "runpod") -> Path:
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
    "ports: [abc, 99999/tcp]": ("3:20", "must look like 8888/http, not 'abc'"),
    "ports: 99999/tcp": ("3:20", "must look like 8888/http, not '99999/tcp'"),
    "ports: [0/tcp]": ("3:20", "must look like 8888/http, not '0/tcp'"),
    "ports: 8888": ("3:20", "must look like 8888/http, not '8888'"),
    "ssh_key_file: id_ed25519": ("3:27", "must look like ~/.ssh/id_ed25519, not 'id_ed25519'"),
    "user: ../x": ("3:19", "must look like anna-berg, not '../x'"),
    "pods: 3000": ("3:19", "must be at most 100, not 3000"),
    "min_cuda: new": ("3:23", "must look like 13.0, not 'new'"),
    "env_id: xyz": ("3:21", "must look like a0533aa1"),
    "store: gcs": ("3:20", "must be one of local, runpod, aws, r2, s3, not 'gcs'"),
    "engine: builtn": ("3:21", "not 'builtn' (did you mean 'builtin'?)"),
    "upload_consent: maybe": ("3:29", "must be one of ask, always, never"),
    "limit_action: stop": ("3:27", "must be one of block, warn"),
    "limits: [{amount: 5, per: hour}]": ("3:39", "per must be one of run, day, week, month, not 'hour'"),
    "limits: [{amount: -5, per: day}]": ("3:31", "amount must be at least 0, not -5"),
    "limits: [{per: day}]": ("3:22", "limits: 'amount' is missing"),
    "limits: [{amount: 5, per: day, off: user}]": ("3:44", "unknown key 'off' (did you mean 'of'?)"),
    "limits: [{amount: 5, per: day, of: me}]": ("3:48", "of must be one of all, stack, user, not 'me'"),
    "limits: 5": ("3:21", "must be a list of 'name: value' blocks"),
    "cloud: lokal": ("3:20", "not 'lokal' (did you mean 'local'?)"),
    "gpus: A": ("3:3", "unknown setting 'gpus' (did you mean 'gpu'?)"),
    "max_price: {secure: v1:abc}": ("3:24", "it cannot be 'secure'"),
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_setting_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    place, says = WRONG[line]

    with pytest.raises(UserError) as caught:
        reader.load(written(tmp_path, f"config:\n\n  trainyard:{line}\n"), "runpod")

    assert str(caught.value).startswith(f"Pulumi.runpod.yaml:{place}: "), str(caught.value)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("confg:\n  trainyard:cloud: local\n", "1:1", "unknown key 'confg' (did you mean 'config'?)"),
        ("config:\n  gpu: A\n", "2:3", "'gpu' has no 'trainyard:' before it: write 'trainyard:gpu'"),
        ("trainyard:cloud: local\n", "1:1", "'trainyard:cloud' belongs below 'config:', as 'trainyard:cloud'"),
        ("gpu: H100\n", "1:1", "'gpu' belongs below 'config:', as 'trainyard:gpu'"),
        ("config:\n  trainyrad:gpu: A\n", "2:3", "unknown key 'trainyrad:gpu' (did you mean 'trainyard:gpu'?)"),
        ("config:\n  trainyard:config:gpu: A\n", "2:3", "unknown setting 'config:gpu'"),
        ("config: a\n", "1:1", "'config' must hold"),
        ("config:\n  - a\n", "1:1", "'config' must hold"),
        ("config:\n  trainyard:gpu: A\n  trainyard:gpu: B\n", "3:3", "given twice"),
        ("config:\n  trainyard:image: a\n  trainyard:template: b\n", "3:3", "given both"),
        ("config:\n  trainyard:pods: 1\n", "2:3", "needs the hours of its lease"),
        ("config:\n  trainyard:cloud: local\n  trainyard:regions: [EU]\n", "3:3", "trainyard:regions means nothing to cloud 'local'"),
        ("config:\n  trainyard:cloud: lambda\n  trainyard:image: a/b\n", "3:3", "means nothing to cloud 'lambda', which rents machines"),
        ("config:\n  trainyard:pod_secrets: [HF_TOKEN, AWS_ACCESS_KEY_ID]\n", "2:3", "AWS_ACCESS_KEY_ID, which opens an account"),
        ("config:\n  trainyard:pod_secrets: PULUMI_CONFIG_PASSPHRASE\n", "2:3", "which is of Trainyard or Pulumi: it is never sent"),
        ("config:\n  trainyard:pod_env: {RUNPOD_API_KEY: x}\n", "2:23", "RUNPOD_API_KEY, which opens an account or a bucket"),
        ("config:\n  trainyard:pod_env: {A: b, HF_TOKEN: x}\n", "2:29", "has HF_TOKEN in clear"),
        ("config:\n  trainyard:pod_env:\n    my_password: x\n", "3:5", "has my_password in clear"),
        ("config:\n  trainyard:pod_env: {MINE: x}\n  trainyard:pod_secrets: [MINE]\n", "2:23", "has MINE in clear"),
        ("config:\n  trainyard:gpu: !!int x\n", "1:1", "not valid YAML"),
        ("config:\n  trainyard:gpu: \x01\n", "1:1", "not valid YAML"),
        ("config:\n  trainyard:gpu: a\0b\n", "2:19", "NUL byte"),
        ("a: " + "[" * 3000, "1:1", "nested too deeply"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, place: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        reader.load(written(tmp_path, text), "runpod")

    assert str(caught.value).startswith(f"Pulumi.runpod.yaml:{place}: "), str(caught.value)
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("config: {}\n".encode("utf-16"), "is UTF-16, not UTF-8"),
        (b"# caf\xe9\nconfig: {}\n", "Pulumi.runpod.yaml:1:6: this is no UTF-8 text"),
    ],
)
def test_a_file_of_another_encoding_is_named_so(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "Pulumi.runpod.yaml").write_bytes(data)

    with pytest.raises(UserError) as caught:
        reader.load(tmp_path, "runpod")

    assert says in str(caught.value)


def test_values_arrive_typed_also_as_pulumi_writes_them(tmp_path: Path) -> None:
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

    settings = reader.load(written(tmp_path, text), "runpod")

    assert {name: getattr(settings, name) for name in settings.explicit} == {
        "gpu": ("A",), "regions": ("EU", "US"), "gpu_count": 2, "spot": False, "max_price": 3.5, "hours": 2, "min_cuda": "13.0",
        "pod_env": {"A": "x", "B": "1", "C": "true"}, "registry": Encrypted("v1:abc"), "lifecycle": ({"prefix": "tmp/", "expire_days": 3},),
    }  # fmt: skip
    assert (settings.cloud, settings.store, settings.disk_gb) == ("runpod", None, 100)


def test_a_variable_without_a_secret_in_it_may_be_called_as_it_likes(tmp_path: Path) -> None:
    text = """
config:
  trainyard:pod_env: {MAX_TOKENS: 1, TOKENIZERS_PARALLELISM: false, SSH_PUBLIC_KEY: x, WANDB_API_KEY: "", HF_TOKEN: {secure: v1:x}}
"""
    assert len(reader.load(written(tmp_path, text), "runpod").pod_env_names) == 5


def test_the_cloud_of_a_stack_is_its_setting_else_its_name(tmp_path: Path) -> None:
    assert reader.cloud_of(written(tmp_path, "", "runpod"), "runpod") == "runpod"
    assert reader.cloud_of(written(tmp_path, "config:\n  trainyard:cloud: runpod\n", "big"), "big") == "runpod"
    with pytest.raises(UserError, match="cloud is missing, and stack 'other' has no cloud's name"):
        reader.load(written(tmp_path, "", "other"), "other")


def test_a_misspelt_wish_does_not_keep_a_pod_from_being_ended(tmp_path: Path) -> None:
    written(tmp_path, "confg: 1\nconfig:\n  trainyard:cloud: runpod\n  trainyard:spot: maybe\n")

    assert reader.cloud_of(tmp_path, "runpod") == "runpod"


def test_a_key_file_that_is_not_there_or_is_no_key_is_told_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    written(tmp_path, f"config:\n  trainyard:ssh_key_file: {path}\n")
    for text, public, says, hint in (
        (None, None, f"there is no {path}.pub", f"ssh-keygen -t ed25519 -f {path}"),
        ("private", None, f"there is no {path}.pub", f"ssh-keygen -y -f {path} > {path}.pub"),
        ("private", new_ssh_key()[1], f"{path} is no private SSH key", ""),
    ):
        for file, content in ((path, text), (path.with_suffix(".pub"), public)):
            if content:
                file.write_text(content)
        with pytest.raises(UserError) as caught:
            settings_of("runpod", places(tmp_path, {}), {})
        assert str(caught.value).startswith("Pulumi.runpod.yaml:2:27: trainyard:ssh_key_file: ")
        assert says in caught.value.message and hint in (caught.value.hint or "")
    path.write_text(new_ssh_key()[0])
    assert settings_of("runpod", places(tmp_path, {}), {}).ssh_key_file == str(path)


@pytest.mark.parametrize("stack", ["local", "runpod"])
def test_a_store_that_is_asked_for_without_its_keys_is_refused_and_not_dropped(tmp_path: Path, stack: str) -> None:
    here = places(written(tmp_path, "config:\n  trainyard:store: r2\n", stack), {})
    keys = {"R2_ACCESS_KEY_ID": "a", "R2_SECRET_ACCESS_KEY": "b", "R2_ENDPOINT_URL": "https://x.r2.cloudflarestorage.com"}

    with pytest.raises(UserError, match="trainyard:store is r2, and none of its keys is set") as caught:
        settings_of(stack, here, {})
    assert str(caught.value).startswith(f"Pulumi.{stack}.yaml:2:20: ") and "R2_SECRET_ACCESS_KEY" in (caught.value.hint or "")
    assert settings_of(stack, here, keys).store == "r2"
    assert reader.partly(tmp_path, stack, "store").store == "r2", "what ends pods reads on"


def test_choices_of_stores_are_those_of_the_client() -> None:
    assert STORES == KINDS


def test_a_run_s_stack_knows_what_travels_what_it_was_asked_for_and_its_own_keys() -> None:
    own = {"run", "fence_id", "ssh_public_key", "ssh_key_file", "host_key_seed", "fence_bucket", "fence_store"}
    own |= {"container_bundle", "container_secrets"}

    assert set(RUN_SETTINGS) == {name for name, setting in SETTINGS.items() if setting.travels} | {"hours", "budget"} | own


def test_what_travels_to_a_run_is_what_a_person_set_or_the_recipe_raised(tmp_path: Path) -> None:
    path = written(
        tmp_path, "config:\n  trainyard:gpu: [A]\n  trainyard:gpu_count: 1\n  trainyard:hours: 5\n  trainyard:registry: {secure: v1:x}\n"
    )
    settings = dataclasses.replace(reader.load(path, "runpod"), min_cuda="13.0")

    assert for_run(settings) == {
        "cloud": "runpod", "gpu": ("A",), "gpu_count": 1, "registry": Encrypted("v1:x"), "min_cuda": "13.0",
    }  # fmt: skip


@pytest.mark.parametrize(("shape", "names"), [
    (PodInputs, {"gpu_count", "disk_gb", "spot", "ports"}), (LeaseInputs, {"rescue_minutes"}),
    (EndpointInputs, {"boot_accepted_minutes", "boot_ssh_minutes"}),
])  # fmt: skip
def test_what_the_provider_takes_for_granted_is_what_the_table_says(shape: Any, names: set[str]) -> None:
    defaults = {item.name: item.default for item in properties(shape) if item.name in SETTINGS and item.default not in (None, [], {})}

    assert set(defaults) == names
    assert defaults == {name: reader.as_written(SETTINGS[name].default) for name in names}


@pytest.mark.parametrize("path", sorted(ROOT.glob("Pulumi.*.yaml")), ids=lambda path: path.name)
def test_the_settings_that_are_shipped_are_right_and_what_they_show_in_comments_is_known(path: Path) -> None:
    reader.load(ROOT, path.name.split(".")[1])
    commented = [line for line in path.read_text().splitlines() if line.strip().startswith("# trainyard:")]

    assert {name for line in commented for name in re.findall(r"trainyard:(\w+)", line)} <= set(SETTINGS)


NOT_SEEN_BY_AN_EDITOR = {"hours: .nan"}
"""JSON knows no such number."""


def test_an_editor_that_knows_the_schema_refuses_what_the_reader_refuses() -> None:
    judge = jsonschema.Draft7Validator(page.schema())
    taken = {line for line in WRONG if judge.is_valid({"config": yamlfile.parse(f"trainyard:{line}", "x")})}

    assert taken == NOT_SEEN_BY_AN_EDITOR
    assert not judge.is_valid({"config": {"gpu": "A"}}) and not judge.is_valid({"confg": {}})
    assert judge.is_valid({"config": {"aws:region": "x", "trainyard:registry": {"secure": "v1:x"}}, "encryptionsalt": "v1:x"})
    for path in ROOT.glob("Pulumi.*.yaml"):
        judge.validate(yamlfile.load(path))


def test_page_and_schema_are_as_the_table_makes_them() -> None:
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")

    assert text == page.page(text), "run: invoke docs --write"
    assert (ROOT / page.SCHEMA).read_text(encoding="utf-8") == page.schema_text(), "run: invoke docs --write"
