"""What `render --stack` shows is what the cloud is sent; what `--from` takes is what is sent, and nothing that a promise rests on."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.clouds.account import OPTIONS, Account, account
from tests.clouds.test_contract import _played
from trainyard.clock import format_time
from trainyard.clouds.http import Api
from trainyard.clouds.marker import PodName, new_id
from trainyard.clouds.protocol import Offer
from trainyard.clouds.rendering import Renders, leaves, parse
from trainyard.clouds.slurm.cloud import SlurmCloud
from trainyard.config import places
from trainyard.errors import UserError
from trainyard.leases.podwish import PodWish
from trainyard.ledger.queue import QueueRows
from trainyard.remote.keys import new_ssh_key
from trainyard.runs.context import CommandContext
from trainyard.runs.planning import requestedits
from trainyard.runs.planning.cloudrequest import REFERENCE, CloudRequest, cloud_request
from trainyard.runs.planning.requestedits import load
from trainyard.runs.queue import submission
from trainyard.runs.queue.submit import submit
from trainyard.runs.ui import Ui
from trainyard.runs.verbs import rerun
from trainyard.runs.verbs.past import SeenAttempt
from trainyard.runs.verbs.prepare import priced
from trainyard.runs.verbs.render import render_run
from trainyard.runs.verbs.train import TrainRequest, foresee
from trainyard.settings.clouds import entries, entry
from trainyard.settings.ofcloud import pod_inputs
from trainyard.settings.setting import Encrypted
from trainyard.settings.table import StackSettings, build

HOURS = 2.0
ROOT = Path(__file__).resolve().parents[2]
TOKEN = "ghp_thisIsASecret"
BESIDE: Mapping[str, tuple[str, ...]] = {
    "vast": ("gpu_type", "num_gpus", "price_max", "regions", "spot"),
    "jarvislabs": ("template",),
    "replicate": ("version",),
}
"""What a rendered document has beside the body that is sent."""


def _with_a_file() -> list[object]:
    """Return the emulated clouds whose create request can be read."""
    return [one for one in _played() if entries()[str(getattr(one, "values", (one,))[0])].request_file]


@pytest.fixture(scope="module", params=_with_a_file())
def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account(request.param, tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture(scope="module")
def vast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with account("vast", tmp_path_factory.mktemp("vast")) as made:
        yield made


def settings_for(at: Account, **more: object) -> StackSettings:
    """Return settings of a stack by which this account has an offer."""
    offer, row = at.offer(), entries()[at.emulator.cloud.name]
    said: dict[str, object] = {"gpu": (offer.gpu,), "gpu_count": offer.gpu_count}
    if "image" in row.settings:
        said |= {"image": "ghcr.io/you/x@sha256:00"}
    if not row.machines:
        said |= {"pod_env": {"MINE": "1"}}
    return build({**said, **OPTIONS.get(row.name, {}), **more}, row.name)


def rendered(at: Account, settings: StackSettings) -> CloudRequest:
    return cloud_request(at.cloud, settings, at.offer(), HOURS)


def sent(at: Account, settings: StackSettings, patch: pytest.MonkeyPatch) -> object:
    """Create a pod as the provider does, and return the body that went to the emulator."""
    bodies: list[object] = []
    create = Api.create

    def recorded(self: Api, path: str, body: object, **more: Any) -> Any:
        bodies.append(body)
        return create(self, path, body, **more)

    patch.setattr(Api, "create", recorded)
    row, name = entries()[settings.cloud], PodName(new_id(), new_id(), "pod", "0123abcd")
    stop = datetime.now(UTC) + timedelta(hours=HOURS)
    wish = PodWish(
        lease_id=name.lease_id, fence_id=name.fence_id, stop=format_time(stop), end=format_time(stop + timedelta(minutes=30)) or "",
        host_key_seed="ab" * 32, public_key=new_ssh_key()[1], container_bundle=None if row.ssh else "0" * 64,
        container_secrets=None if row.ssh else "secret", store=None, bucket=None, **pod_inputs(settings),
    )  # fmt: skip
    pod = at.cloud.create(wish.request(str(name)).spec_for(at.offer()), at.offer())
    assert pod.id in at.alive()
    return bodies[-1]


def flat(document: object) -> dict[tuple[str, ...], object]:
    return {path: value for path, (value, _) in leaves(document).items()}  # type: ignore[arg-type]


def is_like(template: object, value: object) -> bool:
    """Tell whether a value is a rendered one with something in place of each reference."""
    if not isinstance(template, str) or not REFERENCE.search(template):
        return template == value
    pattern = ".*".join(re.escape(part) for part in REFERENCE.split(template))
    return re.fullmatch(pattern, str(value), re.DOTALL) is not None


def test_what_is_rendered_is_what_the_cloud_is_sent_but_for_the_references(at: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    name, settings = at.emulator.cloud.name, settings_for(at)
    document = {key: value for key, value in rendered(at, settings).document.items() if key not in BESIDE.get(name, ())}
    if name == "modal":
        pytest.skip("its SDK makes other words of it: tests/clouds/modal runs the program")
    went: Any = sent(at, settings, monkeypatch)
    if name == "replicate":  # cog's inputs are texts
        went["input"] |= {key: json.loads(went["input"][key]) for key in ("command", "env", "secrets")}
    body, received = flat(document["request"] if name == "vast" else document), flat(went)
    unlike = {path: (value, received.get(path)) for path, value in body.items() if not is_like(value, received.get(path))}
    whole = {path for path, value in body.items() if isinstance(value, str) and REFERENCE.fullmatch(value)}
    assert not {path: pair for path, pair in unlike.items() if path not in whole}
    more = {path for path in received if path not in body and not any(path[: len(one)] == one for one in whole)}
    assert not more


def test_a_file_that_nobody_has_edited_is_sent_as_it_stands(at: Account, tmp_path: Path) -> None:
    settings = settings_for(at)
    request = rendered(at, settings)
    file = tmp_path / request.file
    file.write_text(request.text, encoding="utf-8")
    edited = load(file, settings.cloud)
    taken = edited.settings(settings, "stack")
    judged = edited.judged(at.cloud, taken, [at.offer()], HOURS, "stack")
    assert cloud_request(at.cloud, judged, at.offer(), HOURS).text == request.text


def test_no_secret_is_in_a_file(at: Account) -> None:
    row = entries()[at.emulator.cloud.name]
    more: dict[str, object] = {"registry": f"-u me -p {TOKEN} ghcr.io"} if "image" in row.settings else {}
    more |= {"pod_env": {"SECRET_ONE": Encrypted("v1:abc"), "PLAIN": "7"}} if not row.machines else {}
    text = rendered(at, settings_for(at, **more)).text
    assert TOKEN not in text and "v1:abc" not in text and "PRIVATE KEY" not in text
    if not row.machines:
        assert "${TRAINYARD_SECRET_ONE}" in text and "PLAIN" in text


def test_a_file_that_can_be_written_has_fields_that_can_be_edited() -> None:
    for row in entries().values():
        assert bool(row.request_edits) == bool(row.request_file)


# --- edited --------------------------------------------------------------------------------------------------------------


def edit(vast: Account, tmp_path: Path, settings: StackSettings, *changes: tuple[str, str]) -> Path:
    text = rendered(vast, settings).text
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = tmp_path / "vast_job.json"
    file.write_text(text, encoding="utf-8")
    return file


def taken(vast: Account, file: Path, settings: StackSettings) -> StackSettings:
    edited = load(file, "vast")
    said = edited.settings(settings, "vast")
    return edited.judged(vast.cloud, said, [vast.offer()], HOURS, "vast")


def test_what_a_file_says_is_what_the_pod_becomes(vast: Account, tmp_path: Path) -> None:
    settings = settings_for(vast)
    file = edit(
        vast, tmp_path, settings, ('"disk": 100', '"disk": 60'), ("ghcr.io/you/x@sha256:00", "ghcr.io/you/y:2"),
        ('"price_max": null', '"price_max": 0.75'), ('"MINE": "1"', '"OTHER": "2", "-p 8080:8080": "1"'),
        ('"regions": []', '"regions": ["EU"]'),
    )  # fmt: skip
    said = taken(vast, file, settings)
    assert (said.disk_gb, said.image, said.max_price, said.regions) == (60, "ghcr.io/you/y:2", 0.75, ("EU",))
    assert said.pod_env == {"OTHER": "2"} and said.ports == ("22/tcp", "8080/tcp")
    body = cloud_request(vast.cloud, said, vast.offer(), HOURS).document
    assert flat(body) == flat(json.loads(file.read_text()))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"label": "${TRAINYARD_NAME}', '"label": ^"mine', "'request.label' is 'mine"),
        ('"onstart": "printf', '"onstart": ^"true; printf', "'request.onstart' is"),
        ('"runtype": "ssh_direct"', '"runtype": ^"args"', "'request.runtype' is 'args' here"),
        ('"disk": 100', '"dsik": ^100', "unknown field 'request.dsik' (did you mean 'request.disk'?)"),
        ('"cancel_unavail": true', '"vm": ^true', "unknown field 'request.vm'"),
        ('"gpu_type": "', '"gpu_typ": ^"", "gpu_type": "', "unknown field 'gpu_typ' (did you mean 'gpu_type'?)"),
        ('"cancel_unavail": true', '"cancel_unavail": true, "extra": ^{}', "unknown field 'request.extra'"),
        ('"num_gpus": 1', '"num_gpus": ^0', "'num_gpus' must be at least 1, not 0"),
        ('"num_gpus": 1', f'"num_gpus": ^{"9" * 6000}', "a number of 6,000 digits"),
        ('"price_max": null', '"price_max": ^NaN', "'price_max' must be a number, not 'NaN'"),
        ('"price_max": null', '"price_max": ^-.inf', "'price_max' must be a number, not -Infinity"),
        ('"MINE": "1"', '"hf_token": ^"x"', "pod_env has hf_token in clear"),
        ('"MINE": "1"', '"TRAINYARD_MINE": ^"1"', "is called like Trainyard's own variables"),
        ('"runtype": "ssh_direct"', '"runtype": ^["args"]', "'request.runtype' is a list here, and what would be sent has 'ssh_direct'"),
        ('"MINE": "1"', '"MINE": ^{"a": "1"}', "variable 'MINE' must be a text, not a map"),
        ('"price_max": null,', "", "'price_max' is missing, and empty would be sent"),
        ('"TRAINYARD_LEASE_ID": "${TRAINYARD_LEASE_ID}",', "", "'request.env.TRAINYARD_LEASE_ID' is missing"),
        ('"TRAINYARD_PRICE": "${TRAINYARD_PRICE}"', '"TRAINYARD_PRICE": ^"0"', "'request.env.TRAINYARD_PRICE' is '0'"),
        ('"MINE": "1"', '"VAST_API_KEY": ^"abc"', "pod_env names VAST_API_KEY"),
        ('"MINE": "1"', '"MINE": ^"${TRAINYARD_MINE}"', "'MINE' refers to a value that nobody has"),
        ('"disk": 100', '"disk": ^"much"', "'request.disk' must be a whole number"),
        ('"num_gpus": 1', '"num_gpus": 1^}', "not valid YAML"),
    ],
)  # fmt: skip
def test_what_a_promise_rests_on_is_refused_at_its_place(vast: Account, tmp_path: Path, old: str, new: str, words: str) -> None:
    settings = settings_for(vast)
    file = edit(vast, tmp_path, settings, (old, new.replace("^", "")))
    before = edit(vast, tmp_path, settings, (old, new)).read_text().partition("^")[0] if "^" in new else None
    edit(vast, tmp_path, settings, (old, new.replace("^", "")))
    with pytest.raises(UserError) as refused:
        taken(vast, file, settings)
    where = refused.value.where
    assert words in refused.value.message and where is not None
    if before is not None and "not valid" not in words and not words.endswith(("a map", "'ssh_direct'")):
        assert (where.line, where.column) == (before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)


def test_a_rehearsal_takes_a_request_to_the_real_cloud_by_what_it_asks_for(vast: Account, tmp_path: Path) -> None:
    settings = settings_for(vast)
    file = edit(
        vast, tmp_path, settings, (f'"VAST_URL": "{vast.emulator.url}"', '"VAST_HASTE": "1"'), ('"client_id": "me"', '"client_id": "you"'),
        ('"MINE": "1"', '"MINE": "2"'), ('"disk": 100', '"disk": 900'),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"'request\.client_id' is 'you' here"):
        taken(vast, file, settings)

    edited = replace(load(file, "vast"), rehearsed=True)
    judged = edited.judged(vast.cloud, edited.settings(settings, "vast"), [vast.offer()], HOURS, "vast")
    assert judged.pod_env == {"MINE": "2"} and judged.disk_gb == 100, "what a rehearsal has room for"
    file.write_text(file.read_text().replace('"client_id"', '"client"'))
    edited = replace(load(file, "vast"), rehearsed=True)
    with pytest.raises(UserError, match=r"unknown field 'request\.client'"):
        edited.judged(vast.cloud, edited.settings(settings, "vast"), [vast.offer()], HOURS, "vast")


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "vast_job.json", "is empty: it asks for nothing"),
        ("# nothing\n{}", "vast_job.json", "is empty: it asks for nothing"),
        ('{"gpus_per_container": 1, "registry_config": {"image_url": "a"}}', "x.json", "looks like a request to io.net (caas_deployment"),
        ("IMAGE = 'a'\n", "modal_app.py", "a request to Vast.ai is a file like vast_job.json"),
        ("[1]", "vast_job.json", "expected 'key: value' lines"),
    ],
)
def test_a_file_that_is_no_request_of_this_cloud_says_what_it_is(tmp_path: Path, text: str, name: str, words: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UserError) as refused:
        load(file, "vast")
    assert words in str(refused.value)


def test_what_a_training_at_replicate_is_of_may_be_said_and_none_of_it_is_taken_back_in_silence(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with account("replicate", tmp_path_factory.mktemp("replicate")) as at:
        settings, file, other = settings_for(at), tmp_path / "replicate_job.json", f"you/other:{'1' * 64}"
        document = json.loads(rendered(at, settings).text)

        def judged(**more: object) -> StackSettings:
            file.write_text(json.dumps({name: value for name, value in {**document, **more}.items() if value is not None}))
            edited = load(file, "replicate")
            return edited.judged(at.cloud, edited.settings(settings, "r"), [at.offer()], HOURS, "r")

        assert (judged(version=other).template, judged(destination="you/b").destination) == (other, "you/b")
        with pytest.raises(UserError, match="'destination' is missing, and 'you/trained' would be sent") as refused:
            judged(destination=None)
        assert "Trainyard's" not in str(refused.value.hint)


def test_a_text_that_differs_late_is_shown_where_it_differs(vast: Account, tmp_path: Path) -> None:
    settings = settings_for(vast)
    file = edit(vast, tmp_path, settings)
    document = json.loads(file.read_text())
    document["request"]["onstart"] += "; curl evil"
    file.write_text(json.dumps(document, indent=1))
    with pytest.raises(UserError, match="; curl evil' here"):
        taken(vast, file, settings)


def test_only_the_offers_of_which_a_file_is_true_are_taken(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with account("runpod", tmp_path_factory.mktemp("runpod")) as at:
        settings, offer = settings_for(at), at.offer()
        elsewhere = replace(offer, id=offer.id.replace(str(offer.region), "US-TX-9"))
        file = tmp_path / "runpod_request.json"
        file.write_text(rendered(at, settings).text, encoding="utf-8")
        edited = load(file, "runpod")
        said = edited.settings(settings, "runpod")
        assert edited.judged(at.cloud, said, [elsewhere, offer], HOURS, "runpod").only_offers == (offer.id,)
        with pytest.raises(UserError, match=r"'dataCenterIds\.0' is") as refused:
            edited.judged(at.cloud, said, [elsewhere], HOURS, "runpod")
        assert refused.value.where is not None and refused.value.hint == "What RunPod has now wants it so."


def test_a_program_for_modal_is_read_by_its_constants() -> None:
    text = "IMAGE = 'a'\nENV = {\n 'A': 'x' 'y',\n 'B': [1, 2.5, None]}\n\nimport os\nprint(IMAGE)\n"
    found = parse(text, "modal_app.py")
    assert dict(found) == {"IMAGE": "a", "ENV": {"A": "xy", "B": [1, 2.5, None]}, "program": "\nimport os\nprint(IMAGE)\n"}
    with pytest.raises(UserError, match=r"modal_app.py:1:9"):
        parse("IMAGE = open('/etc/passwd')\n", "modal_app.py")
    line = "ENV = {'größe': '😀', 'B': open('x')}\n"
    with pytest.raises(UserError, match=f"modal_app.py:1:{line.index('open') + 1}: "):
        parse(line, "modal_app.py")
    assert parse("A = 'x\x0cy'\nimport os\n", "modal_app.py")["program"] == "import os\n"
    for text, words in (
        ("IMAGE = \n", "no program for Python"), (f"GPU_COUNT = {'9' * 6000}\n", "a number of 6,000 digits"),
        (f"GPU_COUNT = 0x{'f' * 6000}\n", "digits"), ("A = 1; import os\n", "one constant a line"), ("A = 1\nA = 2\n", "given twice"),
        ("A = '\\ud800'\n", "half a surrogate pair"),
        ("A = " + "-" * 5000 + "1\n", "no program|too deeply"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=words) as refused:
            parse(text, "modal_app.py")
        assert refused.value.where is not None


def test_a_cloud_that_is_sent_nothing_says_so(tmp_path: Path) -> None:
    for cloud in ("ssh", "local"):
        assert entry(cloud) is not None
        with pytest.raises(UserError, match="is sent no create request"):
            load(tmp_path / "x.json", cloud)


def test_every_adapter_of_a_row_with_a_file_renders(at: Account) -> None:
    assert isinstance(at.cloud, Renders)


def test_the_program_gives_a_runs_pod_what_a_rendered_request_was_made_of() -> None:
    declared = ast.parse((ROOT / "trainyard/program/pod.py").read_text(encoding="utf-8"))
    told = ast.parse((ROOT / "trainyard/settings/ofcloud.py").read_text(encoding="utf-8"))
    call = next(node for node in ast.walk(declared) if isinstance(node, ast.Call) and ast.unparse(node.func) == "PodArgs")
    function = next(node for node in ast.walk(told) if isinstance(node, ast.FunctionDef) and node.name == "pod_inputs")
    table = next(node for node in ast.walk(function) if isinstance(node, ast.Dict))
    program = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    program |= {"env": "settings.pod_env", "registry": "settings.registry", "heartbeat_minutes": "settings.heartbeat_minutes"}
    inputs = {ast.literal_eval(key): ast.unparse(value) for key, value in zip(table.keys, table.values, strict=True) if key is not None}
    assert inputs == {name: text for name, text in program.items() if "settings" in text and name != "cloud"}


# --- by the verbs --------------------------------------------------------------------------------------------------------


def work_at(vast: Account, folder: Path, *lines: str) -> CommandContext:
    """Return what a verb works with in a repository of one stack that leads to the emulator."""
    folder.mkdir(exist_ok=True)
    for name in ("templates", "playbooks", "infra"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "Pulumi.yaml").write_text("name: trainyard\n")
    said = [f"gpu: [{vast.offer().gpu}]", "hours: 1", "bucket: none", *lines]
    (folder / "Pulumi.vast.yaml").write_text("config:\n" + "".join(f"  trainyard:{line}\n" for line in said))
    env = {**vast.emulator.env, "HOME": str(folder), "TRAINYARD_LOCAL_ROOT": str(folder / "l")}
    return CommandContext(places(folder, env), env, Ui(json=True))


def test_a_rendered_file_is_taken_by_train_and_priced_as_it_says(vast: Account, tmp_path: Path) -> None:
    work = work_at(vast, tmp_path / "w")
    request = TrainRequest("vast", recipe="command", words=("sh", "-c", "true"))
    written = render_run(work, request, tmp_path / "bundle").request
    assert written is not None and written.name == "vast_job.json"
    plain = foresee(work, replace(request, request_file=written))
    file = tmp_path / "edited.json"
    file.write_text(written.read_text().replace('"disk": 100', '"disk": 300').replace('"WORKSPACE"', '"MINE": "1", "WORKSPACE"'))
    priced = foresee(work, replace(request, request_file=file))
    assert (plain.settings.disk_gb, priced.settings.disk_gb) == (100, 300) and priced.settings.pod_env == {"MINE": "1"}
    assert priced.estimate.most > plain.estimate.most, "its disk is part of its price"
    with pytest.raises(UserError, match="there is no such file"):
        foresee(work, replace(request, request_file=tmp_path / "none.json"))


def test_without_a_key_it_is_said_what_it_is_needed_for(vast: Account, tmp_path: Path) -> None:
    work = work_at(vast, tmp_path / "w")
    work = CommandContext(work.places, {name: value for name, value in work.env.items() if name != "VAST_API_KEY"}, work.ui)
    with pytest.raises(UserError, match="VAST_API_KEY is not set: a request names an offer and its price") as refused:
        render_run(work, TrainRequest("vast", recipe="command", words=("true",), sets=("code=none",)), tmp_path / "bundle")
    assert "leave --stack out" in str(refused.value.hint) and not (tmp_path / "bundle").exists()


def test_what_is_submitted_with_a_file_is_begun_and_run_again_as_that_file_says(vast: Account, tmp_path: Path) -> None:
    work = work_at(vast, tmp_path / "w", "image: you/a:1")
    request = TrainRequest("vast", recipe="command", words=("sh", "-c", "true"), name="a", sets=("code=none",))
    written = render_run(work, request, tmp_path / "bundle").request
    assert written is not None
    file = tmp_path / "edited.json"
    file.write_text(written.read_text().replace("you/a:1", "you/b:2"))
    entry = submit(work, replace(request, request_file=file))
    file.unlink()
    content = QueueRows(work.ledger().database).content(entry.id)
    assert content is not None
    with submission.opened(content) as folder:
        base = SeenAttempt(folder.load(), folder, None)

        def again(stack: str | None, submitted: rerun.SubmittedRun | None = None) -> StackSettings:
            asked = rerun.RerunRequest(entry.run, stack, name="b", submitted=submitted)
            with base.bundle(work) as bundle:
                plan, cloud = rerun.planned_from(work, asked, base, bundle)
            return priced(work, plan, cloud).settings

        begun = rerun.SubmittedRun(entry.id, entry.user, 1, lambda: None, lambda _: None)
        assert [again("vast", begun).image, again(None).image, again("vast").image] == ["you/b:2", "you/b:2", "you/a:1"]
        kept = folder.snapshot / "request" / "vast_job.json"
        kept.write_text(kept.read_text().replace('"label": "', '"label": "mine'))
        with pytest.raises(UserError, match=r"'request\.label' is") as refused:
            again("vast", begun)
        assert refused.value.where is not None and refused.value.where.file == "vast_job.json"


def test_what_is_no_file_of_a_requests_size_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, pipe = tmp_path / "large.json", tmp_path / "pipe.json"
    with large.open("wb") as file:
        file.truncate(10**9)
    for path in (large, Path("/dev/zero")):
        with pytest.raises(UserError, match="no create request"):
            load(path, "vast")
    os.mkfifo(pipe)
    monkeypatch.setattr(requestedits, "PIPE_PATIENCE", 0.01)
    with pytest.raises(UserError, match="is a pipe into which nobody has written"):
        load(pipe, "vast")


@pytest.mark.parametrize(
    ("line", "words", "at"),
    [
        ("regions: [EU, Atlantis]", "Vast.ai has no region 'ATLANTIS'", (6, 27)),
        ("regions: EUROPA", "Vast.ai has no region 'EUROPA' (did you mean 'EUROPE'?)", (6, 22)),
        ("gpu: [RTX 5090, RTX 409O]", "no GPU is called 'RTX 409O'", (6, 29)),
    ],
)
def test_a_gpu_or_a_region_that_nobody_has_is_refused_at_its_place(
    vast: Account, tmp_path: Path, line: str, words: str, at: tuple[int, int]
) -> None:
    work = work_at(vast, tmp_path / "w")
    file = tmp_path / "w" / "Pulumi.vast.yaml"
    lines = [one for one in file.read_text().splitlines() if not (line.startswith("gpu") and ":gpu:" in one)]
    file.write_text("\n".join([*lines, *(["# a line"] * (5 - len(lines))), f"  trainyard:{line}"]) + "\n")
    with pytest.raises(UserError) as refused:
        foresee(work, TrainRequest("vast", recipe="command", words=("true",)))
    where = refused.value.where
    assert words in refused.value.message and where is not None
    assert (where.file, where.line, where.column) == ("Pulumi.vast.yaml", *at)


def test_a_batch_script_has_sbatchs_options_and_they_may_be_edited(tmp_path: Path) -> None:
    settings = build({"login": "me@cluster", "partition": "short", "queue_hours": 1.0}, "slurm")
    offer = Offer("me@cluster/short/-", "slurm", None, 0, 0.0)
    cloud = SlurmCloud({}, places(tmp_path, {}), {"me@cluster": None})
    request = cloud_request(cloud, settings, offer, HOURS)
    lines = request.text.splitlines()
    assert lines[0].startswith("#!/bin/bash") and "#SBATCH --partition=short" in lines and "#SBATCH --requeue" in lines
    file = tmp_path / request.file
    file.write_text(request.text.replace("--partition=short", "--partition=long"), encoding="utf-8")
    edited = load(file, "slurm")
    said = edited.settings(settings, "slurm")
    assert said.partition == "long"
    assert edited.judged(cloud, said, [offer], HOURS, "slurm").partition == "long"
    file.write_text(request.text.replace("#SBATCH --requeue\n", ""), encoding="utf-8")
    with pytest.raises(UserError, match="'--requeue' is missing"):
        load(file, "slurm").judged(cloud, settings, [offer], HOURS, "slurm")
    file.write_text(request.text + "rm -rf /\n", encoding="utf-8")
    with pytest.raises(UserError, match="'rm -rf /' here, and what would be sent has ''") as refused:
        load(file, "slurm").judged(cloud, settings, [offer], HOURS, "slurm")
    assert refused.value.where is not None and refused.value.where.line == len(lines) + 1


@pytest.mark.extras("modal")
def test_the_program_for_modal_asks_for_the_sandbox_and_names_what_only_a_run_knows(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with account("modal", tmp_path_factory.mktemp("modal")) as at:
        request = rendered(at, settings_for(at))
        file = tmp_path / request.file
        file.write_text(request.text, encoding="utf-8")
        for name, value in at.emulator.env.items():
            monkeypatch.setenv(name, value)
        program = runpy.run_path(str(file))
        with pytest.raises(SystemExit, match="is not set: only a run of Trainyard knows it"):
            program["main"].info.raw_f()
        for name in set(re.findall(r"TRAINYARD_[A-Z0-9_]+", " ".join(REFERENCE.findall(request.text)))):
            monkeypatch.setenv(name, "600" if name == "TRAINYARD_TIMEOUT" else name.lower().replace("_", "-"))
        program["main"].info.raw_f()
        (pod,) = at.alive()
        assert at.emulator.fleet.existing(pod)["request"]["timeout_secs"] == 600
