"""doctor looks at everything, says what to do, and never prints a secret."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from trainyard.config import Places, load_env
from trainyard.doctor import machine, stackneeds
from trainyard.doctor.checks import checks, lines
from trainyard.doctor.finding import Finding
from trainyard.settings.clouds import CloudEntry

ROOT = Path(__file__).resolve().parents[2]
SENTINEL = "sEnTiNeL-of-a-secret"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A checkout with three stacks, and nothing outside it yet."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "requirements.txt").write_bytes((ROOT / "requirements.txt").read_bytes())
    (root / "Pulumi.yaml").write_text("name: trainyard\nruntime: python\n")
    (root / "Pulumi.local.yaml").write_text("config:\n  trainyard:cloud: local\n")
    (root / "Pulumi.runpod.yaml").write_text("config:\n  trainyard:cloud: runpod\n  trainyard:bucket: results\n")
    (root / "Pulumi.bare.yaml").write_text("config:\n  trainyard:cloud: local\n  trainyard:bucket: none\n")
    return Places(root, root / ".trainyard", tmp_path / "outside", tmp_path / "config")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}


def by_name(found: list[Finding], name: str) -> Finding:
    (check,) = [check for check in found if check.name == name]
    return check


def test_this_checkout_is_found_ready(places: Places, env: dict[str, str]) -> None:
    found = checks(places, env)

    names = {check.name for check in found}
    assert {"python", "packages", "git", "pulumi", "s3 server", "s3 port", "local pods", "disk", ".env", "passphrase"} <= names
    assert by_name(found, "local pods").status == "ok"
    assert by_name(found, "credentials").text == "none set; the 'local' stack needs none"


def test_looking_starts_and_writes_nothing(places: Places, env: dict[str, str]) -> None:
    checks(places, env, "local")

    assert not places.outside.exists()
    assert not places.settings.exists()


def test_no_secret_is_ever_printed(places: Places, env: dict[str, str]) -> None:
    names = ("RUNPOD_API_KEY", "VAST_API_KEY", "HF_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "AWS_SECRET_ACCESS_KEY", "RUNPOD_S3_SECRET_KEY")
    (places.root / ".env").write_text("".join(f"{name}={SENTINEL}-{name}\n" for name in names))
    loaded = {**load_env(places.root, dict(os.environ)), **env, "HTTPS_PROXY": f"http://me:{SENTINEL}@proxy:1"}

    for stack in (None, "local", "runpod"):
        text = "\n".join(lines(checks(places, loaded, stack)))
        assert "RUNPOD_API_KEY set" in text or stack
        assert SENTINEL not in text


def test_a_group_of_keys_that_is_set_by_half_names_what_is_missing(places: Places, env: dict[str, str]) -> None:
    found = by_name(checks(places, {**env, "R2_ACCESS_KEY_ID": "a", "R2_BUCKET_NAME": "b"}), "r2 store")

    assert found.status == "fail"
    assert "R2_SECRET_ACCESS_KEY" in found.text and "R2_ENDPOINT_URL" in found.text


def test_a_machine_of_ones_own_needs_no_key_and_no_image(places: Places, env: dict[str, str]) -> None:
    (places.root / "Pulumi.ssh.yaml").write_text("config:\n  trainyard:hosts: [gpu1]\n")
    texts = {check.name: check.text for check in checks(places, env, "ssh")}

    assert texts["cloud"] == "ssh, needs no credentials" and "image" not in texts


def test_half_of_a_clouds_keys_names_the_other_half(places: Places, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pair = CloudEntry(name="pair", title="Pair", opener="pair:open", keys=("PAIR_ID", "PAIR_SECRET"), key_page="Pair's console")
    monkeypatch.setattr(stackneeds, "entry", lambda name: pair)
    monkeypatch.setattr(stackneeds, "account_keys", lambda: {"pair": pair.keys})
    found = by_name(checks(places, {**env, "PAIR_ID": "a"}), "pair key")

    assert (found.status, found.text) == ("warn", "PAIR_ID set, but not PAIR_SECRET: set all of them, or none")


def test_a_stack_without_its_key_says_which_one_and_where_to_get_it(places: Places, env: dict[str, str]) -> None:
    found = by_name(checks(places, env, "runpod"), "cloud")

    assert (found.status, found.text) == ("fail", "RUNPOD_API_KEY is not set")
    assert found.remedy and "RunPod's console" in found.remedy and "invoke setup --stack runpod" in found.remedy


def test_a_stack_without_a_bucket_says_how_far_the_fence_holds(places: Places, env: dict[str, str]) -> None:
    with_key = {**env, "RUNPOD_API_KEY": "x"}

    for found in (checks(places, env, "bare"), checks(places, with_key, "runpod")):
        assert by_name(found, "bucket").status == "warn"
        assert "this machine only" in by_name(found, "bucket").text


def test_a_cloud_without_ssh_fails_without_a_bucket_in_the_words_of_the_refusal(places: Places, env: dict[str, str]) -> None:
    (places.root / "Pulumi.ionet.yaml").write_text("config:\n  trainyard:cloud: ionet\n")
    found = checks(places, {**env, "IOCLOUD_API_KEY": "x"}, "ionet")

    assert by_name(found, "bucket").status == "fail" and "have no SSH" in by_name(found, "bucket").text
    assert "over SSH" not in " ".join(f"{check.text} {check.remedy}" for check in found)
    assert "lost controller" not in {check.name for check in found}
    store = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert by_name(checks(places, {**env, "IOCLOUD_API_KEY": "x", **store}, "ionet"), "bucket").status == "ok"


def test_whether_a_pod_commits_alone_is_said_with_the_reason(places: Places, env: dict[str, str]) -> None:
    path, key = places.root / "Pulumi.runpod.yaml", {"RUNPOD_API_KEY": "x"}
    volume = {"RUNPOD_S3_ACCESS_KEY": "a", "RUNPOD_S3_SECRET_KEY": "b", "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io"}
    amazon = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_BUCKET": "results"}

    def said(more: dict[str, str]) -> str:
        return by_name(checks(places, {**env, **key, **more}, "runpod"), "lost controller").text

    assert "cannot commit alone: no bucket is set" in said({})
    assert "cannot commit alone: runpod's S3 signs no URLs" in said(volume)
    assert "commits alone 5 minutes after the training, and ends itself" in said(amazon)
    path.write_text(path.read_text().rstrip("\n") + "\n  trainyard:commit_alone_minutes: 0\n")
    assert "switched off" in said(amazon)


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("", "warn", "none set: the cloud's own, by a tag"),
        ("  trainyard:image: me/trainyard-trainer:1\n", "warn", "a tag can move"),
        ("  trainyard:image: me/trainyard-trainer@sha256:00\n", "ok", "me/trainyard-trainer@sha256:00"),
        ("  trainyard:template: t1\n", "ok", "as template t1 says"),
    ],
)
def test_an_image_that_can_change_under_the_user_is_a_warning(
    places: Places, env: dict[str, str], line: str, status: str, says: str
) -> None:
    path = places.root / "Pulumi.runpod.yaml"
    path.write_text(path.read_text().rstrip("\n") + "\n" + line)

    found = by_name(checks(places, {**env, "RUNPOD_API_KEY": "x"}, "runpod"), "image")

    assert found.status == status and says in found.text


def test_a_variable_of_older_guides_without_effect_says_what_to_say_now(places: Places, env: dict[str, str]) -> None:
    found = checks(places, {**env, "RUNPOD_API_KEY": "x", "TRAINING_LOCATION": "runpod", "RUNPOD_GPU_TYPE": "H100"}, "runpod")

    assert "--stack runpod" in (by_name(found, "TRAINING_LOCATION").remedy or "")
    assert "RUNPOD_GPU_TYPE" not in {check.name for check in found}


def test_a_network_volume_as_bucket_that_no_pod_mounts_is_a_warning(places: Places, env: dict[str, str]) -> None:
    store = {"RUNPOD_S3_ACCESS_KEY": "a", "RUNPOD_S3_SECRET_KEY": "b", "RUNPOD_S3_ENDPOINT": "https://s3api-eu-ro-1.runpod.io"}
    path = places.root / "Pulumi.runpod.yaml"
    before = by_name(checks(places, {**env, **store, "RUNPOD_API_KEY": "x"}, "runpod"), "volume")
    path.write_text(path.read_text() + "  trainyard:volume: results\n")
    after = checks(places, {**env, **store, "RUNPOD_API_KEY": "x"}, "runpod")

    assert before.status == "warn" and "trainyard:volume: results" in (before.remedy or "")
    assert "volume" not in {check.name for check in after}


def test_an_unknown_stack_is_a_failed_check_and_the_machine_is_looked_at_all_the_same(places: Places, env: dict[str, str]) -> None:
    found = checks(places, env, "loca")

    assert by_name(found, "stack").status == "fail"
    assert "Stacks here: bare, local, runpod." in (by_name(found, "stack").remedy or "")
    assert by_name(found, "git").status == "ok"


def test_the_engine_of_a_stack_is_told_and_an_impossible_one_fails(places: Places, env: dict[str, str]) -> None:
    assert by_name(checks(places, {**env, "TRAINYARD_ENGINE": "builtin"}, "local"), "engine").text.startswith("builtin")
    assert by_name(checks(places, {**env, "TRAINYARD_ENGINE": "cli"}, "local"), "engine").status == "fail"


def test_an_env_file_that_others_can_read_is_a_warning_with_the_command(places: Places, env: dict[str, str]) -> None:
    path = places.root / ".env"
    path.write_text("A=1\n")
    path.chmod(0o644)
    found = by_name(checks(places, env), ".env")
    assert (found.status, found.remedy) == ("warn", f"close it with: chmod 600 {path}")

    path.chmod(0o600)
    assert by_name(checks(places, env), ".env").status == "ok"


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o640, "warn")])
def test_the_passphrase_must_be_for_you_alone(places: Places, env: dict[str, str], mode: int, status: str) -> None:
    places.settings.mkdir()
    (places.settings / "passphrase").write_text(SENTINEL)
    (places.settings / "passphrase").chmod(mode)

    found = by_name(checks(places, env), "passphrase")

    assert found.status == status
    assert SENTINEL not in found.text


def test_a_passphrase_file_that_is_named_and_absent_fails(places: Places, env: dict[str, str]) -> None:
    found = by_name(checks(places, {**env, "PULUMI_CONFIG_PASSPHRASE_FILE": "/no/such"}), "passphrase")

    assert found.status == "fail"


def test_a_package_that_is_not_as_pinned_is_named(places: Places, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "checkout", lambda: places.root)
    text = (places.root / "requirements.txt").read_text()
    (places.root / "requirements.txt").write_text(text.replace("invoke==", "invoke==999."))

    found = by_name(checks(places, env), "packages")

    assert found.status == "fail"
    assert "pinned: 999." in found.text


def test_in_a_repository_of_ones_own_the_packages_are_those_that_trainyard_needs(
    places: Places, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "checkout", lambda: None)
    assert by_name(checks(places, env), "packages").status == "ok"

    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["invoke>=999", "no-such-package", 'mkdocs>=999; extra == "docs"'])
    found = by_name(checks(places, env), "packages")
    assert found.status == "fail" and "(needed: >=999), no-such-package is missing" in found.text


def test_a_port_that_another_program_holds_is_found(places: Places, env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        places.store.mkdir(parents=True)
        (places.store / "identity.json").write_text(json.dumps({"port": port, "access_key": "a", "secret_key": "b"}))

        found = by_name(checks(places, env), "s3 port")

    assert found.status == "fail"
    assert str(port) in found.text


def test_a_disk_that_is_nearly_full_is_told(places: Places, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "LOW_GB", 10**6)
    assert by_name(checks(places, env), "disk").status == "warn"

    monkeypatch.setattr(machine, "FULL_GB", 10**6)
    assert by_name(checks(places, env), "disk").status == "fail"


def test_missing_programs_are_warnings(places: Places, env: dict[str, str]) -> None:
    found = checks(places, {**env, "PATH": "/nowhere"})

    assert (by_name(found, "git").status, by_name(found, "ssh").status) == ("warn", "warn")


def test_a_refused_isolation_level_fails(places: Places, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_LOCAL_ISOLATION", "nonsense")

    assert by_name(checks(places, env), "local pods").status == "fail"


def test_the_list_shows_the_remedy_of_what_is_wrong_and_counts() -> None:
    text = list(lines([Finding("a", "ok", "fine", "unused"), Finding("longer", "fail", "broken", "mend it"), Finding("c", "warn", "hm")]))

    assert text == [
        "ok    a       fine",
        "FAIL  longer  broken",
        "              -> mend it",
        "warn  c       hm",
        "3 checks: 1 failed, 1 warnings",
    ]


def test_python_environments_that_nobody_needs_are_named_with_the_command_that_removes_them(places: Places, env: dict[str, str]) -> None:
    old = places.cloud / "envs" / "0123456789abcdef-py3.11-linux-x86_64"
    old.mkdir(parents=True)
    (old / "library.so").write_bytes(b"x" * 60_000_000)

    found = by_name(checks(places, env), "venvs")

    assert (found.status, found.text) == ("warn", f"1 in {old.parent}, 60.0 MB; 1 of them (60.0 MB) nobody needs")
    assert found.remedy and "invoke venvs.clean" in found.remedy


@pytest.mark.parametrize(
    "given", [{"ALL_PROXY": f"socks5://me:{SENTINEL}@h:1"}, {"SSL_CERT_FILE": "/etc/hostname"}, {"SSL_CERT_FILE": "/no"}]
)
def test_a_way_out_that_is_none_is_a_failed_check(places: Places, env: dict[str, str], given: dict[str, str]) -> None:
    found = by_name(checks(places, {**env, **given}), "network")

    assert found.status == "fail" and next(iter(given)) in found.text and found.remedy
    assert SENTINEL not in f"{found.text} {found.remedy}"
