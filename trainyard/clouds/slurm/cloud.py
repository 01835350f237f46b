"""Clusters of Slurm behind the Cloud protocol.

A pod is a job; its lease's end is the job's time limit, which the cluster itself keeps. A job costs nothing here. That it is
gone, the cluster's own list says: it shows neither the job nor that it had come to an end. A login node that does not answer
says nothing. Knows no SSH but this machine's own program.
"""

from __future__ import annotations

import builtins
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from trainyard.clouds import gpus
from trainyard.clouds.protocol import Account, Capabilities, CostItem, Offer, OfferQuery, PodInfo, PodSpec
from trainyard.clouds.rendering import PROGRAM
from trainyard.clouds.slurm import answers, login
from trainyard.clouds.slurm.answers import SlurmJob
from trainyard.clouds.slurm.login import LoginFailed
from trainyard.clouds.slurm.request import CPU, REFUSED, ClusterOptions, batch_script, options_of_job, submission
from trainyard.config import Places
from trainyard.errors import CloudError, CloudRefused, CloudUnknown, UserError

_MARK = "\x1e"
"""Before what is an answer: start-up files on the login node may print anything."""
_ENTER = "srun --jobid={job} --overlap --quiet --unbuffered --nodes=1 --ntasks=1 --relative=0 python3 {program} enter"
_GRES = re.compile(r"gpu(?::(?P<type>[A-Za-z][\w.-]*))?:(?P<count>\d+)")


_ABLE = Capabilities(
    self_terminate=True, deadline=True, change_markers=False, settle=2.0, listings=2, post_timeout=180.0, queues=True
)  # fmt: skip


@dataclass(slots=True)
class SlurmCloud:
    """All clusters that are known here; a pod's id is ``<login node>:<job id>``."""

    env: Mapping[str, str] = field(repr=False)
    places: Places
    logins: Mapping[str, Path | None]
    """Login nodes, each with the file that remembers it where no stack names it."""
    name: str = "slurm"
    capabilities: Capabilities = _ABLE
    address: str | None = None
    simulated: bool = field(init=False)
    """True in a rehearsal, whose cluster is this machine."""

    def __post_init__(self) -> None:
        self.simulated = set(self.logins) == {login.REHEARSAL}

    def offers(self, query: OfferQuery) -> list[Offer]:
        """Return what the partition has, busy or not: who waits for it pays nothing."""
        if not query.options.get("login") and self.logins:  # asked by no stack, but for what there is
            return [offer for where in self.logins for offer in self.offers(replace(query, options={"login": where}))]
        options = ClusterOptions.of(query.options)
        if not query.gpus and not options.gres:
            return [self._offer(options, CPU, None, 0)]
        if options.gres:
            named = _GRES.search(options.gres)
            kind = (named and named["type"]) or (query.gpus[0] if query.gpus else "GPU")
            return [self._offer(options, options.gres, kind, int(named["count"]) if named else query.gpu_count)]
        kinds = self._kinds(options)
        fitting = [kinds[index] for name in query.gpus for index in gpus.match(name, [(kind,) for kind in kinds])]
        return [self._offer(options, f"gpu:{kind}:{query.gpu_count}", kind, query.gpu_count) for kind in dict.fromkeys(fitting)]

    def create(self, spec: PodSpec, offer: Offer) -> PodInfo:
        """Ask for one job. Raises CloudRefused only when the cluster answers and would not take the request at all."""
        options = ClusterOptions.of(spec.options)
        program = submission(spec, offer, options, self.now())
        login.remember(self.places, options.login)
        try:
            said = login.run(options.login, self.env, program, timeout=self.capabilities.post_timeout)
        except LoginFailed as error:
            if error.code == REFUSED:
                raise CloudRefused(error.message, hint="Nothing was asked for. These are sbatch's own words.") from None
            raise CloudUnknown(error.message, hint=error.hint) from None
        job = said.rpartition(_MARK)[2].strip().partition(";")[0]
        if not job.isdigit():
            raise CloudUnknown(f"sbatch on {options.login} printed no job id: {said[-200:]!r}")
        info = self.get(f"{options.login}:{job}")
        if info is None:
            raise CloudUnknown(f"{options.login} has taken job {job} and does not know it")
        return info

    def rendered(self, query: OfferQuery, spec: PodSpec, offer: Offer, now: datetime) -> dict[str, object]:
        """Return sbatch's options and the batch script."""
        options = ClusterOptions.of(spec.options)
        words = (word.partition("=") for word in options_of_job(spec, offer, options, now))
        return {**{name: value for name, _, value in words}, PROGRAM: batch_script(spec, options, now)}

    def get(self, pod_id: str) -> PodInfo | None:
        """Return the job; None when it is over, or the cluster has forgotten it, as it does some minutes after the end."""
        job = self._job(pod_id)
        return self._pod(job, _split(pod_id)[0]) if job is not None and not job.final else None

    def list(self) -> builtins.list[PodInfo]:
        """Return all jobs of this user that wait or run, on all clusters that are known here."""
        pods: builtins.list[PodInfo] = []
        for where, remembered in self.logins.items():
            try:
                pods += [self._pod(job, where) for job in self._jobs(where) if not job.final]
            except LoginFailed as error:
                hint = f"If that cluster is gone for good, remove {remembered}" if remembered else error.hint
                raise CloudError(error.message, hint=hint) from None
        return pods

    def terminate(self, pod_id: str) -> None:
        """Cancel the job; what its folder keeps uncommitted stays there."""
        where, number = _split(pod_id)
        self._ask(where, f"scancel {number} 2>/dev/null; true")

    def change_markers(self, pod_id: str, stop: datetime | None, end: datetime | None) -> None:
        """Refuse: a cluster lets its users shorten a time limit, and no more."""
        raise CloudRefused("the time limit of a Slurm job cannot be made longer", hint="Nothing was changed.")

    def boot_problem(self, pod_id: str) -> str | None:
        """Return how a job has ended, None while it has not; its batch script's last words with it."""
        job = self._job(pod_id)
        if job is None or not job.final:
            return None
        log = f"tail -n 3 {shlex.quote(job.workspace + '.log')} 2>/dev/null; true"
        log = self._ask(_split(pod_id)[0], log) if job.workspace else ""
        said = " | ".join(line for line in log.splitlines() if line.strip())
        return f"{job.words}{': ' + said if said else ''}"

    def costs(self) -> builtins.list[CostItem]:
        """Return the jobs: they cost nothing, and take nodes from others."""
        return [CostItem("pod", pod.id, pod.name, 0.0, pod.lease_id is not None) for pod in self.list()]

    def disks_per_hour(self, disk_gb: int, *, gpu: bool, volume: bool) -> float:
        """Return nothing: the folder lies on the cluster's own file system."""
        return 0.0

    def account(self) -> Account | None:
        """Return nothing: a cluster counts hours, not dollars."""
        return None

    def billed(self, pod_id: str) -> None:
        """Return nothing: no bill is sent."""

    def now(self) -> datetime:
        """Return this machine's clock: jobs are given spans of time, never moments."""
        return datetime.now(UTC)

    def _offer(self, options: ClusterOptions, gres: str, gpu: str | None, count: int) -> Offer:
        per_pod = count * options.nodes
        return Offer(f"{options.login}/{options.partition or 'default'}/{gres}", self.name, gpu, per_pod, 0.0, region=options.login)

    def _kinds(self, options: ClusterOptions) -> builtins.list[str]:
        """Return the types of GPUs of the partition; raises UserError where the cluster gives them none."""
        only = f"-p {shlex.quote(options.partition)}" if options.partition else ""
        lines = self._ask(options.login, f"sinfo -h {only} -o '%P|%G'").splitlines()
        gres = [line.partition("|")[2] for line in lines if options.partition or line.partition("|")[0].endswith("*")]
        matches = [match for text in gres for match in _GRES.finditer(text)]
        if matches and not any(match["type"] for match in matches):
            raise UserError(
                "the cluster gives its GPUs no type: they cannot be chosen by name", hint="Say it as sbatch does: trainyard:gres: gpu:1"
            )
        return list(dict.fromkeys(match["type"] for match in matches if match["type"]))

    def _job(self, pod_id: str) -> SlurmJob | None:
        where, number = _split(pod_id)
        try:
            return next((job for job in self._jobs(where) if job.id == number), None)
        except LoginFailed as error:
            raise CloudUnknown(error.message, hint=error.hint) from None

    def _jobs(self, where: str) -> builtins.list[SlurmJob]:
        """Return the jobs of this user that the cluster has or remembers. An answer without error is complete."""
        text = self._ask(where, f"SLURM_TIME_FORMAT=%s squeue --me -h -t all -o '{answers.FIELDS}'")
        return answers.read_jobs(text)

    def _ask(self, where: str, command: str) -> str:
        said = login.run(where, self.env, f"out=$({command}) || exit; printf '\\036%s\\n' \"$out\"")
        if _MARK not in said:
            raise LoginFailed(f"{where}: what was asked was not run, it said {said[:200]!r}", None)
        return said.rpartition(_MARK)[2]

    def _pod(self, job: SlurmJob, where: str) -> PodInfo:
        program = shlex.quote(f"{job.workspace}/.trainyard/allocation.py")
        line = _ENTER.format(job=job.id, program=program)
        return answers.pod_of(job, where, (*login.ssh_words(where, self.env), line))


def _split(pod_id: str) -> tuple[str, str]:
    where, _, number = pod_id.rpartition(":")
    if not where or not number.isdigit():
        raise CloudError(f"'{pod_id}' is no job: LOGIN:NUMBER")
    return where, number
