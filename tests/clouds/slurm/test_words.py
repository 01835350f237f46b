"""What a cluster's words mean, and what is asked of it, without a cluster."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from trainyard.clouds.protocol import Offer, PodSpec
from trainyard.clouds.slurm.answers import FINAL, SEPARATOR, STATES, marks_of, pod_of, read_jobs
from trainyard.clouds.slurm.request import ClusterOptions, submission
from trainyard.errors import CloudRefused, UserError
from trainyard.rehearsal.slurm import cluster
from trainyard.settings.ofcloud import options_of
from trainyard.settings.table import build

NAME = "ty-0123456789-abcdefabcd-pod-01234567"
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
OFFER = Offer("login/gpu/gpu:h100:2", "slurm", "h100", 2, 0.0)
SPEC = PodSpec(
    name=NAME, fence_id="0123456789", lease_id="abcdefabcd", stop=NOW + timedelta(hours=3), end=NOW + timedelta(hours=3, minutes=30),
    boot=("sh", "-c", "echo it's 'the' boot"), env={"A": "it's $HOME\nand more"}, options={"login": "login", "queue_hours": "1"},
)  # fmt: skip


def line(state: str, *, start: str = "N/A", end: str = "N/A", reason: str = "None", comment: str = "", name: str = NAME) -> str:
    """Return a line of squeue's."""
    return SEPARATOR.join(("4711", state, "1796000000", start, end, "1", "gpu", reason, comment, name))


MARKS = marks_of({"end": "2026-11-30T15:30:00Z", "rescue": 1800, "gpus": 2, "gpu": "h100", "folder": "/scratch/a b&c+d"})


@pytest.mark.parametrize("state", sorted(STATES))
def test_each_state_that_is_not_final_is_a_pod(state: str) -> None:
    [job] = read_jobs(line(state, comment=MARKS))

    pod = pod_of(job, "me@login", ("ssh", "me@login", "srun"))

    assert pod.id == "me@login:4711" and pod.status == STATES[state] and not job.final
    assert (pod.fence_id, pod.lease_id, pod.gpu, pod.gpu_count) == ("0123456789", "abcdefabcd", "h100", 2)
    assert pod.workspace == "/scratch/a b&c+d-4711"
    assert (pod.ssh is not None) == (STATES[state] == "running")


def test_a_state_that_is_new_is_unknown_and_never_over() -> None:
    [job] = read_jobs(line("DREAMING", comment=MARKS))

    assert pod_of(job, "login", ()).status == "unknown" and not job.final


@pytest.mark.parametrize("state", sorted(FINAL))
def test_each_final_state_has_its_meaning_in_words(state: str) -> None:
    [job] = read_jobs(line(state))

    assert job.final and job.words.startswith(f"{state} (")


def test_a_job_that_waits_tells_why_and_when_it_may_start() -> None:
    [job] = read_jobs(line("PENDING", start="1796000060", reason="Resources", comment=MARKS))

    assert job.words == "PENDING (Resources; the cluster expects its start at 2026-11-30T00:54:20Z)"


def test_the_end_of_a_job_that_runs_is_the_clusters_and_never_later_than_its_lease() -> None:
    early, late = (read_jobs(line("RUNNING", end=end, comment=MARKS))[0] for end in ("1796040000", "1896040000"))

    assert (pod_of(early, "l", ()).end, pod_of(early, "l", ()).stop) == (
        datetime.fromtimestamp(1796040000, UTC), datetime.fromtimestamp(1796040000 - 1800, UTC),
    )  # fmt: skip
    assert pod_of(late, "l", ()).end == datetime(2026, 11, 30, 15, 30, tzinfo=UTC)


def test_jobs_of_others_and_a_comment_that_was_edited_are_seen_as_what_they_are() -> None:
    foreign, edited = read_jobs("\n".join((line("RUNNING", name="my notebook\nof two lines"), line("RUNNING", comment="mine now"))))

    assert pod_of(foreign, "l", ()).lease_id is None and not pod_of(foreign, "l", ()).end_unreadable
    assert pod_of(edited, "l", ()).end_unreadable, "ours by its name, and when it ends is not told"


def test_a_request_carries_its_lease_as_spans_of_time_and_the_settings_by_slurms_names() -> None:
    options = replace(
        ClusterOptions.of(SPEC.options), partition="gpu", account="a", qos="q", nodes=2, sbatch=("--mem=1G", "--comment=x y"),
        modules=("cuda/12",),
    )  # fmt: skip

    text = submission(SPEC, OFFER, options, NOW)

    for word in (
        f"--job-name={NAME}", "--time=150", "--deadline=now+12600", "--signal=B:TERM@1800", "--requeue", "--partition=gpu", "--account=a",
        "--qos=q", "--nodes=2", "--gres=gpu:h100:2", "--mem=1G", "#!/bin/bash -l", "modules=cuda/12",
    ):  # fmt: skip
        assert word in text, word
    comment = next(word for word in text.split("\n") if word.startswith("comment=")).removeprefix("comment=").strip("'")
    assert parse_qs(comment)["end"] == ["2026-11-30T15:30:00Z"]


def test_a_lease_that_leaves_no_time_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(CloudRefused, match="leaves no time for a job that may wait for 24 hours"):
        submission(SPEC, OFFER, ClusterOptions.of({"login": "login"}), NOW)
    with pytest.raises(UserError, match="login is not set"):
        ClusterOptions.of({})


def test_only_what_is_set_and_belongs_to_the_cloud_alone_is_passed_on() -> None:
    slurm = build({"cloud": "slurm", "login": "me@l", "sbatch": ("-a", "-b"), "queue_hours": 2.5, "nodes": 1, "gpu": ("H100",)}, "s")

    assert options_of(slurm) == {"login": "me@l", "sbatch": "-a\n-b", "queue_hours": "2.5"}
    assert options_of(build({"cloud": "runpod"}, "runpod")) == {}


def test_a_rehearsals_slurm_is_found_where_its_packages_were_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ""

    def found(name: str, root: Path = Path("/")) -> str | None:
        return shutil.which(name, path=path if root == Path("/") else f"{root}/usr/sbin")

    def unpacked(root: Path) -> Path:
        (root / "usr" / "sbin").mkdir(parents=True)
        for name in cluster._PROGRAMS:
            (root / "usr" / "sbin" / name).touch(0o755)
        return root

    monkeypatch.setattr(cluster, "find", found)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cluster.programs() == Path("/")
    kept = unpacked(tmp_path / "trainyard" / "test-servers" / "slurm")
    assert cluster.programs() == kept
    path = f"{unpacked(tmp_path / 'elsewhere')}/usr/sbin"
    assert cluster.programs() == tmp_path / "elsewhere"
