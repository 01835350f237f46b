"""What has become of the files that a run sent stands in record and summary, with the proof, and is said at the end."""

from __future__ import annotations

import json
from pathlib import Path

from trainyard.recipes.summaries import CodeSummary, DataDeletion, DataSummary, PodDeletion
from trainyard.runs.records.datadeletion import deletion
from trainyard.runs.records.parts import PaidPod, RunBucket, RunPod
from trainyard.runs.records.record import RunFolder, RunRecord, as_json, read_record
from trainyard.runs.records.summary import last_lines, summarize

DAY = 86400


def ended(data: DataSummary, **changes: object) -> RunRecord:
    record = RunRecord("ann", "a", 1, "gpu", "command", {}, "0", 1.0, 0.0, phase="ended", ended=10.0 * DAY, data=data, **changes)  # type: ignore[arg-type]
    record.pods = [PaidPod("p1", 1.0, 5.0, ended=60.0), PaidPod("p2", 1.0, 70.0, ended=120.0)]
    return record


def lines(record: RunRecord, tmp_path: Path) -> list[str]:
    return [line for line in last_lines(summarize(record, RunFolder(tmp_path)), None) if "was sent" in line or "a copy" in line]


def test_the_proof_names_each_pod_and_what_of_the_bucket_a_rule_removes_when(tmp_path: Path) -> None:
    code = CodeSummary("/x", None, "0", 1, 1, stored="c" * 64)
    record = ended(DataSummary(kind="folder", stored="d" * 64, expire_days=30), bucket=RunBucket("b"), code=code)
    proof = deletion(record)
    pods = (PodDeletion("p1", "1970-01-01T00:01:00Z"), PodDeletion("p2", "1970-01-01T00:02:00Z"))
    whole = DataDeletion(
        proved_at="1970-01-11T00:00:00Z", pods=pods, bucket="s3://b/data/", indexes=("d" * 64, "c" * 64), gone_by="1970-02-10T00:00:00Z"
    )
    assert proof == whole
    record.data = DataSummary(kind="folder", deleted=proof)
    assert read_record(json.loads(json.dumps(as_json(record)))).data.deleted == proof
    assert lines(record, tmp_path) == ["what was sent is gone with its 2 pods; a copy is in s3://b/data/, until 1970-02-10 at the latest"]


def test_without_a_bucket_or_a_rule_no_moment_is_promised(tmp_path: Path) -> None:
    record = ended(DataSummary(kind="file", in_bucket="e" * 64), bucket=RunBucket("b"))
    assert (deletion(record).indexes, deletion(record).gone_by) == (("e" * 64,), None)
    record.data = DataSummary(kind="file", in_bucket="e" * 64, deleted=deletion(record))
    assert lines(record, tmp_path)[0].endswith("a copy is in s3://b/data/, until a person removes them")
    record = ended(DataSummary(kind="file"))
    record.data = DataSummary(kind="file", deleted=deletion(record))
    assert lines(record, tmp_path) == ["what was sent is gone with its 2 pods"]


def test_a_pod_without_a_proof_is_not_called_gone_and_on_this_machine_nothing_is_said(tmp_path: Path) -> None:
    record = ended(DataSummary(kind="file"))
    record.pods[1] = PaidPod("p2", 1.0, 70.0)
    record.data = DataSummary(kind="file", deleted=deletion(record))
    assert deletion(record).pods[1] == PodDeletion("p2", None) and lines(record, tmp_path) == []
    local = ended(DataSummary(kind="file"), pod=RunPod(isolation="process"))
    local.data = DataSummary(kind="file", deleted=deletion(local))
    assert lines(local, tmp_path) == []
