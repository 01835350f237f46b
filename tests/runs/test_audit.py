"""The audit shows everything that costs money, and whose it is."""

import io
import json
from types import SimpleNamespace

import pytest

from trainyard.clouds.protocol import Account, CostItem
from trainyard.config import Places
from trainyard.errors import CloudUnknown
from trainyard.runs.environments import audit

ITEMS = [
    CostItem("pod", "p1", "ty-x", 0.94, True),
    CostItem("stopped pod", "p2", "theirs", 0.0, False),
    CostItem("disk", "p2", "theirs (disk)", 0.0274, False),
    CostItem("volume", "vol1", "data", 7 / 730, False),
    CostItem("volume", "vol2", "other", 14 / 730, False),
]


class Ui:
    def __init__(self):
        self.lines, self.console = [], SimpleNamespace(print=lambda table: None)

    def say(self, text):
        self.lines.append(text)

    warn = say


@pytest.fixture
def context(tmp_path):
    (tmp_path / "Pulumi.runpod.yaml").write_text("config:\n  trainyard:cloud: runpod\n  trainyard:volume: vol1\n")
    cloud = SimpleNamespace(name="runpod", costs=lambda: ITEMS, account=lambda: Account(20.0, 0.94, 12.5))
    places = Places(tmp_path, tmp_path / "h", tmp_path / "o", tmp_path / "s")
    return SimpleNamespace(cloud=lambda name: cloud, places=places, ui=Ui(), the_cloud=cloud)


def test_pods_stopped_pods_disks_and_volumes_are_summed_by_hour_and_month(context):
    assert audit(context, "runpod", as_json=False) == 0
    total = sum(item.per_hour for item in ITEMS)
    assert context.ui.lines == [
        f"in all ${total:.4f}/h, ${total * 730:.2f} a month",
        "billed for pods in the last 30 days $12.50; balance $20.00, which lasts 21 h",
    ]


def test_the_volume_that_the_settings_name_is_ours(context, capsys):
    audit(context, "runpod", as_json=True)
    whose = {row["id"]: row["ours"] for row in json.load(io.StringIO(capsys.readouterr().out)) if row["kind"] == "volume"}
    assert whose == {"vol1": True, "vol2": False}


def test_a_cloud_that_does_not_tell_the_balance_is_no_reason_to_fail(context):
    def refuse():
        raise CloudUnknown("GraphQL is retired")

    context.the_cloud.account = refuse
    assert audit(context, "runpod", as_json=False) == 0
    assert "GraphQL is retired" in context.ui.lines[-1]
