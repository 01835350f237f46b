"""The rehearsal's API says what the specification says: forms, rules, refusals, limits, bills."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.conftest import body
from trainyard.errors import Busy, RefusedError
from trainyard.rehearsal.kit import Emulator, Paid, Timing, Window, refuse_beside_the_real, start
from trainyard.rehearsal.kit.limits import Limits
from trainyard.rehearsal.runpod import RUNPOD, billing, schema
from trainyard.rehearsal.runpod.billing import BillQuery


def test_a_pod_is_made_shown_listed_ended_and_then_unknown(api: httpx.Client) -> None:
    made = api.post("/pods", json=body())
    assert made.status_code == 201 and schema.check("Pod", made.json()) == []
    pod_id = made.json()["id"]
    assert made.json()["status"] == "PROVISIONING" and made.json()["ssh"]["direct"] is None
    assert api.get(f"/pods/{pod_id}").json() == made.json()
    assert [pod["id"] for pod in api.get("/pods").json()["pods"]] == [pod_id]
    ended = api.delete(f"/pods/{pod_id}")
    assert (ended.status_code, ended.content) == (204, b"")
    for again in (api.delete(f"/pods/{pod_id}"), api.get(f"/pods/{pod_id}")):
        assert again.status_code == 404 and schema.check("ErrorResponse", again.json()) == []
        assert again.headers["Content-Type"] == "application/problem+json"
    assert api.get("/pods").json() == {"pods": []}


def test_two_creates_of_one_name_make_two_pods(api: httpx.Client) -> None:
    assert api.post("/pods", json=body()).json()["id"] != api.post("/pods", json=body()).json()["id"]


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (body(bogus=1), "'bogus' was unexpected"),
        (body(name=None), "'name' is a required property"),
        (body(name=""), "$.name"),
        (body(image=None), "missing property 'image'"),
        (body(gpu={"id": "x", "count": 0}), "less than the minimum of 1"),
        (body(gpu={"id": "x", "ram": 3}), "'ram' was unexpected"),
        (body(env={"A": 1}), "$.env.A"),
        (body(ports="22/tcp"), "not of type 'array'"),
        (body(cloud="ALL"), "SECURE"),
        (body(disk=0), "less than the minimum of 1"),
        (body(disk=True), "not of type 'integer'"),
        (body(mounts={"persistent": {"size": 5, "path": "/w"}}), "less than the minimum of 10"),
        (body(mounts={"persistent": {"size": 50}}), "'path' is a required property"),
        (body(mounts={"network": [{"volumeId": "a", "path": "b"}] * 2}), "$.mounts.network"),
        (body(interruptible=True), "interruptible"),
        (body(terminateAfter="2026-01-01T00:00:00Z"), "terminateAfter"),
        ([], "not of type 'object'"),
    ],
)
def test_a_body_that_does_not_fit_the_schema_is_422(api: httpx.Client, request_body: object, says: str) -> None:
    answer = api.post("/pods", json=request_body)
    assert answer.status_code == 422 and says in str(answer.json()["errors"]), answer.text
    assert api.get("/pods").json() == {"pods": []}


@pytest.mark.parametrize(
    ("request_body", "says"),
    [
        (body(gpu=None), "exactly one"),
        (body(cpu={"id": "cpu3c", "vcpuCount": 4}), "exactly one"),
        (body(gpu=None, cpu={"id": "cpu3c", "vcpuCount": 6}), "vcpuCount"),
        (body(mounts={"persistent": {"size": 10, "path": "/w"}, "network": [{"volumeId": "v", "path": "/v"}]}), "mutually exclusive"),
        (body(gpu={"id": "NVIDIA GeForce RTX 5090", "count": 99}), "no longer any instances"),
        (body(gpu={"id": "NVIDIA Imaginary"}), "no longer any instances"),
        (body(dataCenterIds=["AP-JP-1"]), "no longer any instances"),
        (body(mounts={"network": [{"volumeId": "nosuch", "path": "/v"}]}), "network volume"),
        (body(ports=["22/udp"]), "22/udp"),
        (body(env={f"V{i}": "" for i in range(51)}), "at most 50"),
    ],
)
def test_a_broken_rule_and_no_capacity_look_the_same(api: httpx.Client, request_body: object, says: str) -> None:
    answer = api.post("/pods", json=request_body)
    assert answer.status_code == 400 and says in answer.json()["detail"]


def test_an_account_without_an_hours_credit_gets_402(api: httpx.Client, paper: Emulator) -> None:
    paper.fleet.ledger.save_account({"balance": 0.5})
    assert api.post("/pods", json=body()).status_code == 402


def test_a_template_fills_in_what_the_body_leaves_out(api: httpx.Client, paper: Emulator) -> None:
    paper.fleet.ledger.save_account({"templates": {"t1": {"image": "from-template", "disk": 70, "env": {"A": "1", "B": "2"}}}})
    made = api.post("/pods", json=body(image=None, templateId="t1", env={"B": "3"})).json()
    assert (made["image"], made["disk"], made["env"], made["template"]) == ("from-template", 70, {"A": "1", "B": "3"}, None)
    assert api.post("/pods", json=body(templateId="nosuch")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PUT", "/pods", 405),
        ("GET", "/pods/x/y/z", 404),
        ("GET", "/pods/nosuch/logs", 404),
        ("POST", "/pods/nosuch/action", 404),
        ("GET", "/catalog/gpus?include=AVAILABILITY", 400),
        ("GET", "/catalog/gpus?count=2", 400),
        ("GET", "/catalog/gpus?include=AVAILABILITY&product=POD&minCudaVersion=new", 422),
        ("GET", "/pods?desiredStatus=EXITED", 200),
    ],
)
def test_other_requests_get_the_status_of_the_specification(api: httpx.Client, method: str, path: str, status: int) -> None:
    assert api.request(method, path, json={"action": "stop"} if method == "POST" else None).status_code == status


def test_a_key_is_needed_and_must_be_right(paper: Emulator) -> None:
    for headers, says in (({}, "missing bearer token"), ({"Authorization": "Bearer rpa_wrong"}, "invalid bearer token")):
        answer = httpx.get(f"{paper.url}/pods", headers=headers, trust_env=False)
        assert answer.status_code == 401 and answer.json()["detail"] == says


def test_stop_start_and_restart_follow_the_status(api: httpx.Client, paper: Emulator) -> None:
    pod_id = api.post("/pods", json=body()).json()["id"]
    assert api.post(f"/pods/{pod_id}/action", json={"action": "restart"}).status_code == 409
    assert api.post(f"/pods/{pod_id}/action", json={"action": "explode"}).status_code == 422
    stopped = api.post(f"/pods/{pod_id}/action", json={"action": "stop"}).json()
    assert (stopped["status"], stopped["cost"], stopped["actions"]) == ("EXITED", 0.0, ["start", "terminate"])
    assert api.post(f"/pods/{pod_id}/action", json={"action": "start"}).json()["status"] == "PROVISIONING"
    assert api.post(f"/pods/{pod_id}/action", json={"action": "terminate"}).status_code == 204


def test_a_patch_changes_what_it_names(api: httpx.Client) -> None:
    pod_id = api.post("/pods", json=body(env={"A": "1"})).json()["id"]
    changed = api.patch(f"/pods/{pod_id}", json={"name": "b"}).json()
    assert (changed["name"], changed["env"]) == ("b", {"A": "1"})
    assert api.patch(f"/pods/{pod_id}", json={"gpu": {}}).status_code == 422


def test_volumes_keys_and_bills_have_the_forms_of_the_specification(api: httpx.Client, paper: Emulator) -> None:
    volume = api.post("/network-volumes", json={"name": "v", "size": 10, "dataCenter": "EU-RO-1"})
    assert volume.status_code == 201 and schema.check("NetworkVolume", volume.json()) == []
    assert api.get("/network-volumes").json()["networkVolumes"] == [volume.json()]
    elsewhere = body(dataCenterIds=["US-CA-2"], mounts={"network": [{"volumeId": volume.json()["id"], "path": "/v"}]})
    assert api.post("/pods", json=elsewhere).status_code == 400
    assert api.delete(f"/network-volumes/{volume.json()['id']}").status_code == 204
    assert api.put("/account/ssh-keys", json={"keys": ["ssh-ed25519 A"]}).json() == {"keys": ["ssh-ed25519 A"]}
    bill = api.get("/billing/pods?bucketSize=hour")
    assert bill.status_code == 200 and schema.check("ListPodBillingResponse", bill.json()) == []


def test_the_bill_counts_every_second_once() -> None:
    paid = [Paid("a", "n", 2.0, 3000.0, 9000.0), Paid("b", "n", 1.0, 0.0, None)]
    report = billing.report(paid, 9000.0, BillQuery("hour"))
    records: Any = report["records"]
    assert sum(r["totalAmount"] for r in records if r["podId"] == "a") == pytest.approx(2 * 6000 / 3600)
    assert sum(r["totalAmount"] for r in records if r["podId"] == "b") == pytest.approx(2.5)
    only: Any = billing.report(paid, 7200.0, BillQuery("day", "a"))["metadata"]
    assert only["uniquePodCount"] == 1


def test_the_bill_tells_compute_and_disks_apart_and_only_of_the_window() -> None:
    paid = [Paid("a", "n", 2.0, 3600.0, 7200.0, disk=0.1), Paid("b", "n", 1.0, 0.0, 3600.0, gpu=False)]
    whole: Any = billing.report(paid, 90_000.0, BillQuery("hour"))["metadata"]
    assert whole["totals"] == pytest.approx({"totalAmount": 3.1, "gpuAmount": 2.0, "cpuAmount": 1.0, "diskAmount": 0.1})
    window: Any = billing.report(paid, 90_000.0, BillQuery("hour", start=3600.0, end=5400.0))["metadata"]
    assert window["uniquePodCount"] == 1 and window["totals"]["totalAmount"] == pytest.approx(2.1)
    newest: Any = billing.report(paid, 90_000.0, BillQuery("day", last=1))
    assert newest["records"] == []


def test_a_rate_limit_turns_away_and_says_for_how_long(root: Path) -> None:
    emulator = start(RUNPOD, root / "limited", timing=Timing(provisioning=1e9), limits={"minute": 3}, env={})
    try:
        with httpx.Client(base_url=emulator.url, headers={"Authorization": f"Bearer {emulator.key}"}, trust_env=False) as client:
            answers = [client.get("/pods") for _ in range(5)]
    finally:
        emulator.stop()
    codes = [answer.status_code for answer in answers]
    assert codes.count(429) >= 1 and codes[0] == 200
    last = answers[codes.index(429)]
    assert 1 <= int(last.headers["Retry-After"]) <= 61 and "minute window" in last.json()["detail"]
    assert '"minute";q=3;w=60' in last.headers["RateLimit-Policy"] and '"minute";r=0' in last.headers["RateLimit"]


def test_limits_are_free_again_in_the_next_window() -> None:
    now = [0.0]
    limits = Limits([Window("minute", 60, 2), Window("hour", 3600, 3)], lambda: now[0])
    assert [limits.take("list").exceeded for _ in range(3)] == [None, None, limits.windows[0]]
    now[0] = 60
    assert limits.take("list").exceeded == limits.windows[1]
    now[0] = 3600
    assert limits.take("list").exceeded is None


RENT = "mutation($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"


def graphql(paper: Emulator, query: str, key: str | None = None, **variables: object) -> Any:
    headers = {"Authorization": f"Bearer {key or paper.key}"}
    answer = httpx.post(paper.env["RUNPOD_GRAPHQL_URL"], json={"query": query, "variables": variables}, headers=headers, trust_env=False)
    return answer.json()


def test_graphql_answers_what_was_selected(api: httpx.Client, paper: Emulator) -> None:
    api.post("/pods", json=body())
    answer = graphql(paper, "query { myself { clientBalance pods { name desiredStatus runtime { ports { ip } } } } }")
    assert answer == {"data": {"myself": {"clientBalance": 100.0, "pods": [{"name": "a", "desiredStatus": "RUNNING", "runtime": None}]}}}
    inline = graphql(paper, 'query { gpuTypes(input: {id: "NVIDIA L4"}) { id securePrice lowestPrice { stockStatus } } }')
    assert inline["data"]["gpuTypes"] == [{"id": "NVIDIA L4", "securePrice": 0.39, "lowestPrice": {"stockStatus": "High"}}]


def test_graphql_ignores_a_deadline_as_in_life(api: httpx.Client, paper: Emulator) -> None:
    mutation = (
        "mutation($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id env machine { podHostId } } }"
    )
    given = {"name": "n", "gpuTypeId": "NVIDIA L4", "imageName": "x", "terminateAfter": "2001-01-01T00:00:00Z",
             "env": [{"key": "A", "value": "1"}], "ports": "22/tcp,8888/http"}  # fmt: skip
    made = graphql(paper, mutation, input=given)["data"]["podFindAndDeployOnDemand"]
    assert made["env"] == ["A=1"] and api.get(f"/pods/{made['id']}").json()["ports"] == ["22/tcp", "8888/http"]


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query { nothing { id } }", {}),
        ("query { myself { pods { id ", {}),
        ("query { myself { nothing } }", {}),
        ("mutation($input: PodTerminateInput!) { podTerminate(input: $input) }", {"input": {"podId": "nosuch"}}),
        (RENT, {"input": {"name": "n", "gpuTypeId": "NVIDIA L4"}}),
        (RENT, {"input": {"name": "n", "gpuTypeId": "NVIDIA L4", "bidPerGpu": 0.01}}),
        (RENT, {"input": {"name": "n", "gpuTypeId": "NVIDIA L4", "bidPerGpu": 1, "bogus": 1}}),
    ],
)
def test_graphql_errors_come_inside_the_answer(paper: Emulator, query: str, variables: dict[str, Any]) -> None:
    assert graphql(paper, query, **variables)["errors"][0]["message"]


@pytest.mark.parametrize("url", ["https://api.runpod.io/v2", "https://rest.runpod.io/v1", "https://x.proxy.runpod.net/"])
@pytest.mark.parametrize("name", ["RUNPOD_API_URL", "RUNPOD_GRAPHQL_URL"])
def test_a_rehearsal_never_starts_beside_a_real_address(name: str, url: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=name):
        start(RUNPOD, tmp_path, env={name: url})
    assert list(tmp_path.iterdir()) == []
    refuse_beside_the_real(RUNPOD, {name: "http://127.0.0.1:1234/v2", "RUNPOD_API_KEY": "x"})


def test_two_rehearsals_never_share_a_folder(paper: Emulator) -> None:
    with pytest.raises(Busy):
        start(RUNPOD, paper.root, env={})


def test_as_a_program_it_prints_where_it_is_and_survives_a_kill(tmp_path: Path, root: Path) -> None:
    def launch() -> tuple[subprocess.Popen[str], dict[str, str]]:
        command = [sys.executable, "-m", "trainyard.rehearsal", "runpod", "--root", str(root / "program"), "--minute", "1000"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline().strip().removeprefix("export ") for _ in range(5)]
        return process, dict(line.split("=", 1) for line in lines)

    first, env = launch()
    with first:
        headers = {"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"}
        made = httpx.post(f"{env['RUNPOD_API_URL']}/pods", json=body(), headers=headers, trust_env=False).json()
        first.kill()
    second, again = launch()
    with second:
        assert again == env
        listed = httpx.get(f"{env['RUNPOD_API_URL']}/pods", headers=headers, trust_env=False).json()["pods"]
        assert [pod["id"] for pod in listed] == [made["id"]]
        assert httpx.delete(f"{env['RUNPOD_API_URL']}/pods/{made['id']}", headers=headers, trust_env=False).status_code == 204
        second.terminate()
    assert second.returncode == 0
    paid = [json.loads(line) for line in (root / "program/ledger.jsonl").read_text().splitlines()]
    assert [line["event"] for line in paid] == ["paid", "unpaid"]


def test_a_rehearsal_without_its_packages_names_the_command_that_brings_them() -> None:
    program = "import sys; sys.modules['graphql'] = None; from trainyard.cli.commandline import trainyard; trainyard()"
    done = subprocess.run([sys.executable, "-c", program, "rehearse"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("a rehearsal needs the package 'graphql'")
    assert "./bootstrap" in done.stderr and "trainyard[rehearsal]" in done.stderr


def test_a_limit_of_one_call_holds_up_no_other() -> None:
    limits = Limits([Window("create", 4.5, 1, "create"), Window("minute", 60, 9)], lambda: 0.0)
    assert [limits.take(call).exceeded for call in ("create", "list", "list", "create")] == [None, None, None, limits.windows[0]]
