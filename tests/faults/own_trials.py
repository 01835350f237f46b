"""Trials that are more than one training with a fault: the six of the guarantee, and what their proof needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

from tests.faults import processes
from tests.faults.bench import Bench
from tests.faults.cases import parse
from tests.faults.endings import train_and_lose
from tests.faults.following import stack_removed
from tests.faults.points import Scene
from tests.faults.trial import LABEL, TRAINED, TRAINING, Fault, Stage, Trial
from tests.faults.world import STACK, CloudYard
from trainyard.stacks import installed

SPY = Path(__file__).parent / "jobs" / "spy.sh"


def set_up_fails(stage: Stage) -> None:
    """The pod has less disk than the training needs: pre-flight says so, the pod is gone."""
    stage.yard.settings()
    done = stage.train("--set", "disk_gb=1000000")
    if done.code == 4 and stage.world.stack != STACK:
        return  # a cloud whose offers tell their disks has none that large
    stage.expect(done.code == 10, f"exit code {done.code}, not 10")
    stage.expect("disk" in done.out.lower(), "it does not name the disk")
    stage.expect(not stage.summary().get("success", True), "the summary does not say that it failed")


def outage_of_terminate(stage: Stage) -> None:
    """Every way of ending a pod answers 500, more often than one round of tries has patience for; then the cloud recovers."""
    stage.yard.settings()
    done = stage.train(faults=(Fault("delete-500", 11, TRAINED), Fault("graphql-500", 60, TRAINED)))
    stage.expect(done.code == 0, f"exit code {done.code}: the teardown gave up")
    refused = [r for r in stage.world.emulator.requests() if r["time"] >= stage.since and r.get("call") == "delete" and r["status"] == 500]
    if not stage.world.emulator.cloud.forgets_ended:  # there a pod that has finished is over, whoever answers to its end
        stage.expect(len(refused) == 11, f"only {len(refused)} terminates were answered 500")


def outage_without_end(stage: Stage) -> None:
    """Terminate never works while the command has patience: told with id, price and command, exit code 6; the command works later."""
    stage.yard.settings()
    scene = Scene(stage.yard, time.time(), LABEL)
    child = stage.yard.start(*stage.yard.train("--name", LABEL))
    stage.world.wait_until(lambda: TRAINED(scene) or child.poll() is not None, 90, "the training never ended")
    for name in ("delete-500", "graphql-500"):
        stage.world.switch(name)
    stage.world.wait_until(lambda: any(r.get("call") == "delete" for r in scene.requests()), 60, "no terminate was asked for")
    for _ in range(2):  # the person has no patience either: the second Ctrl-C says what is still there
        os.kill(child.pid, signal.SIGINT)
        time.sleep(0.5)
    done = stage.ended(child, "train")
    stage.expect(done.code == 6, f"exit code {done.code}, not 6")
    stage.says_what_is_left(done)


def killed_between_accept_and_record(stage: Stage) -> None:
    """The controller and all below it die when the cloud has accepted and nobody has written it down."""
    bench = Bench(stage.world, others=frozenset(["none"]))
    bench.ensure_colleague = lambda: None  # type: ignore[method-assign]
    for following in ("attach", "destroy"):
        bench.others = frozenset()
        result = bench.run(parse(f"train/builtin/all/accepted/{following}"))
        stage.problems += result.problems if result.crashed else ["nothing was killed"]
        stage.story += result.story


def no_limits_given(stage: Stage) -> None:
    """Neither hours nor budget nor price limit: a run has a lease all the same; a declared pod without hours is refused."""
    stage.yard.settings(hours=None, max_price=None, rescue_minutes=None)
    done = stage.train()
    stage.expect(done.code == 0, f"exit code {done.code}")
    ends = stage.world.ends()
    for paid in stage.world.paid(stage.since):
        stage.expect(paid.pod in ends and ends[paid.pod] - paid.start < 3 * 3600, f"pod {paid.pod} had no end within 3 hours")
    if not stage.world.row.ssh:
        return
    stage.yard.settings(hours=None, pods=1)
    refused = stage.verb("up", "--stack", stage.yard.stack, code=None)
    stage.expect(refused.code != 0 and "hours" in refused.out + refused.err, "a declared pod without hours was not refused")
    stage.verb("destroy", "--stack", stage.yard.stack, "--yes")


def account_key_never_on_the_pod(stage: Stage) -> None:
    """The training prints all it can see, the emulator keeps the create request: the account's key is in neither."""
    stage.yard.settings()
    done = stage.yard.invoke("train", "--stack", stage.yard.stack, "--recipe", "command", "--set", f"script={SPY}", "--name", LABEL)
    stage.story.append(done.out[-2000:] + done.err)
    stage.expect(done.code == 0, f"exit code {done.code}")
    seen = (stage.yard.home / "runs" / stage.yard.user / LABEL / "1" / "train.log").read_text(errors="replace")
    told = [name for name in stage.world.row.pod_variables if f"{name}=" in seen]
    stage.expect((told or not stage.world.row.pod_variables) and "watchdog" in seen and "== " in seen, "the spy saw nothing")
    key = stage.world.emulator.key
    stage.expect(key not in seen, "the account's key is on the pod")
    # The keys themselves: a checkout below /root is seen from the pod, and in it the emulator's source, which names them.
    gone = [path.read_text() for path in (stage.world.emulator.root / "gone").glob("*.json")]
    own = [json.loads(text)["key"] for text in gone]
    # Elsewhere the cloud's own entrypoint may keep it in its environment, where root can read it.
    places = [seen[: seen.index(text)].rpartition("\n== ")[2][-300:] for text in own if text in seen]
    stage.expect(stage.world.stack != STACK or not places, f"the training sees the pod's own key, after: {places}")
    stage.expect(not re.search(r"SSH_HOST_ED25519_KEY=\W*BEGIN", seen), "the training sees the pod's host key")
    stage.expect(gone and not any(key in json.dumps(json.loads(text)["request"]) for text in gone), "the key is in a create request")


def nobody_comes(stage: Stage) -> None:
    """REST fails from inside the pod, the controller is dead: the watchdog ends the pod over GraphQL."""
    stage.yard.settings(hours=0.004, rescue_minutes=0.05)
    stage.world.emulator.faults.on("pod-rest-down")
    scene = Scene(stage.yard, time.time(), LABEL)
    child = stage.yard.start(*stage.yard.train("--name", LABEL, steps=600))
    stage.world.wait_until(lambda: bool(scene.fresh()) or child.poll() is not None, 90, "no pod came")
    os.killpg(child.pid, signal.SIGKILL)
    stage.ended(child, "train")
    stage.world.wait_until(lambda: not stage.world.pods(), 90, "the pod outlives its lease")
    stage.expect(any("GraphQL" in paid.why for paid in stage.world.paid(stage.since)), "it was not ended over GraphQL")


def crossed_destroys(stage: Stage) -> None:
    """A destroy while the up of another terminal still rents: whoever wins, nothing is left after both."""
    stage.yard.settings(pods=1)
    stage.world.emulator.faults.on("create-slow", times=1, delay=1.5)
    up = stage.yard.start("up", "--stack", stage.yard.stack)
    scene = Scene(stage.yard, stage.since)
    stage.world.wait_until(lambda: "start" in scene.intents() or up.poll() is not None, 90, "up never asked for a pod")
    stage.verb("destroy", "--stack", stage.yard.stack, "--yes", code=None)
    stage.ended(up, "up")
    stage.verb("destroy", "--stack", stage.yard.stack, "--yes")


def _up(stage: Stage) -> str:
    """Bring a declared pod up and return its id."""
    stage.yard.extra = {**stage.yard.extra, "XDG_CONFIG_HOME": str(stage.yard.base / "c")}
    stage.yard.settings(pods=1)
    stage.verb("up", "--stack", stage.yard.stack)
    (pod,) = [r["id"] for r in stage.world.pods()]
    return str(pod)


def idle_pod_of_a_dead_controller(stage: Stage) -> None:
    """The controller dies while the pod boots: with nobody's help the idle pod ends after the heartbeat minutes, not with its lease."""
    stage.yard.settings(hours=2, heartbeat_minutes=0.1)
    scene = Scene(stage.yard, time.time(), LABEL)
    stage.world.emulator.faults.on("boot-slow", slow=2.0)
    child = stage.yard.start(*stage.yard.train("--name", LABEL))
    stage.world.wait_until(lambda: scene.fresh() or child.poll() is not None, 90, "no pod was rented")
    processes.kill(processes.tree(child.pid))
    stage.ended(child, "train (killed)", 30)
    stage.world.wait_until(lambda: not stage.world.pods(), 60, "the idle pod waits for the end of its lease")


def safe_result_of_a_dead_controller(stage: Stage) -> None:
    """The controller dies after the result is safe: the pod ends itself; while it held the only copy it did not."""
    stage.yard.settings(hours=2, heartbeat_minutes=0.1)
    scene = Scene(stage.yard, time.time(), LABEL)
    child = stage.yard.start(*stage.yard.train("--name", LABEL, steps=3))
    stage.world.wait_until(lambda: scene.phase() == "committed" or child.poll() is not None, 120, "nothing was committed")
    processes.kill(processes.tree(child.pid))
    stage.ended(child, "train (killed)", 30)
    stage.world.wait_until(lambda: not stage.world.pods(), 60, "the pod with the safe result waits for the end of its lease")
    stage.verb("recover", code=0)


def adopted_before_a_lying_cloud(stage: Stage) -> None:
    """The second machine fetches the result, but the cloud ends nothing and its list is empty: 6 with pod and price, until it is true.

    Where no host key is told, nothing is adopted: then it only ends the pod.
    """
    stage.yard.settings(hours=0.2)
    pod, key = train_and_lose(stage, steps=20)
    second = CloudYard(stage.world.base / f"liar-{pod}", {"XDG_CONFIG_HOME": str(stage.world.base / f"c-{pod}")}, world=stage.world)
    for name in ("delete-forbidden", "graphql-error"):
        stage.world.switch(name)
    end = ("end", pod, "--stack", stage.yard.stack)
    adopts = stage.world.infos()[pod].host_key is not None
    child = second.start(*(("adopt", *end[1:], "--key", str(key)) if adopts else end))
    began = time.time()

    def asked() -> bool:
        return any(r["time"] > began and r.get("call") == "delete" for r in stage.world.emulator.requests())

    stage.world.wait_until(lambda: asked() or child.poll() is not None, 120, "nobody asked for the pod's end")
    stage.world.emulator.faults.on("list-empty")
    done = stage.ended(child, "adopt" if adopts else "end")
    stage.expect(done.code == 6 and pod in done.out and "/h" in done.out, f"it exited {done.code} with the pod running")
    stage.world.emulator.faults.off()
    again = second.invoke(*(("attach", LABEL) if adopts else end))
    stage.story.append(again.out + again.err)
    stage.expect(again.code == 0 and not stage.world.pods(), f"attach, or end once more, exited {again.code}")


def state_damaged(stage: Stage) -> None:
    """The state file is cut short: destroy still ends the pod, by the lease of the last good version, and says what it could not do."""
    _up(stage)
    (path,) = stage.yard.places.state.rglob(f"stacks/*/{stage.yard.stack}.json")
    path.write_bytes(path.read_bytes()[:500])
    done = stage.verb("destroy", "--stack", stage.yard.stack, "--yes", code=9)
    stage.expect("damaged" in done.out + done.err, "it does not say that the state is damaged")
    stage.expect(not stage.world.pods(), "the pod is left")
    path.unlink()


def passphrase_lost(stage: Stage) -> None:
    """Nobody can read the secrets any more: destroy ends the pod by its lease id and says so."""
    _up(stage)
    (stage.yard.places.settings / "passphrase").write_text("another one\n")
    done = stage.verb("destroy", "--stack", stage.yard.stack, "--yes", code=None)
    stage.expect(done.code in (0, 9), f"destroy exited {done.code}")
    stage.expect(not stage.world.pods(), "the pod is left")


def state_lost(stage: Stage) -> None:
    """The controller's folder is gone: destroy finds nothing, and says that the cloud lists a pod of ours; `end` ends it."""
    pod = _up(stage)
    shutil.rmtree(stage.yard.home)
    for again in range(2):
        told = stage.verb("destroy", "--stack", stage.yard.stack, "--yes", code=6)
        said = told.out + told.err
        named = pod in said and "/h" in said and f"invoke end {pod}" in said
        stage.expect(named, f"time {again}: it does not name the pod that no state knows")
    stage.verb("end", pod, "--stack", stage.yard.stack)


def stack_removal_refused(stage: Stage) -> None:
    """Forgetting a stack would forget its pod: both ways of removing it refuse while it has one, and work after destroy."""
    pod = _up(stage)
    engines = ["builtin", *(["cli"] if installed.find(os.environ) is not None else [])]
    for engine in engines:
        stage.expect(not stack_removed(stage.yard, engine), f"{engine}: the stack was removed while it had a pod")
    stage.expect(pod in {r["id"] for r in stage.world.pods()}, "a refused removal ended the pod")
    for engine in engines:
        stage.verb("destroy", "--stack", stage.yard.stack, "--yes")
        stage.expect(stack_removed(stage.yard, engine), f"{engine}: the stack cannot be removed after destroy")
        stage.verb("up", "--stack", stage.yard.stack)
    stage.verb("destroy", "--stack", stage.yard.stack, "--yes")


def one_stuck_run_among_many(stage: Stage) -> None:
    """A damaged record keeps neither recover nor destroy from the other runs."""
    stage.yard.settings()
    scene = Scene(stage.yard, time.time(), LABEL)
    child = stage.yard.start(*stage.yard.train("--name", LABEL, steps=30))
    stage.world.wait_until(lambda: TRAINING(scene) or child.poll() is not None, 90, "the training never started")
    os.kill(child.pid, signal.SIGKILL)
    stage.ended(child, "train")
    broken = stage.yard.home / "runs" / stage.yard.user / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "run.json").write_text('{"user": "tes')
    done = stage.verb("recover", code=6)
    stage.expect("broken" in done.out + done.err, "it does not name the damaged record")
    stage.expect(stage.summary().get("success"), "the other run was not finished")
    stage.verb("destroy", "--stack", stage.yard.stack, "--yes")


ALWAYS = (
    Trial("set-up fails on the pod", "a playbook that fails leaves a billing pod", own=set_up_fails, ssh=True),
    Trial("account key never on the pod", "a long-lived key on a rented machine", own=account_key_never_on_the_pod, least_pods=1),
)
OWN = (
    *ALWAYS,
    Trial("terminate answers 500, then recovers", "500 to every terminate for 20 minutes", own=outage_of_terminate, least_pods=1),
    Trial("terminate never works", "marked as terminated because the call failed", own=outage_without_end, least_pods=1),
    Trial("killed between accept and record", "an id that only a variable held", own=killed_between_accept_and_record, most_pods=2),
    Trial("no limits given", "a pod without any deadline", own=no_limits_given, least_pods=1),
    Trial("pod-rest-down and nobody comes", "REST fails from inside the pod, GraphQL works", own=nobody_comes, least_pods=1,
          needs="pod-rest-down", ends_itself=True),
    Trial("controller dead during boot", "an idle pod that nobody looks after", own=idle_pod_of_a_dead_controller, least_pods=1,
          ends_itself=True, ssh=True),
    Trial("controller dead after the commit", "a pod whose result is safe", own=safe_result_of_a_dead_controller, least_pods=1,
          ends_itself=True),
    Trial("adopted before a lying cloud", "one empty list said gone", own=adopted_before_a_lying_cloud, least_pods=1, ssh=True,
          starts=True),
    Trial("destroy crosses up", "two terminals", own=crossed_destroys, ssh=True),
    Trial("state damaged", "a full disk cuts the state short", own=state_damaged, least_pods=1, ssh=True),
    Trial("passphrase lost", "another machine, another passphrase", own=passphrase_lost, least_pods=1, ssh=True),
    Trial("state lost", "git clean -fdx", own=state_lost, least_pods=1, ssh=True),
    Trial("stack removal refused", "stack rm forgets what bills on", own=stack_removal_refused, least_pods=1, most_pods=3, ssh=True),
    Trial("one stuck run among many", "one failure stops the clean-up of all", own=one_stuck_run_among_many, least_pods=1),
)  # fmt: skip
