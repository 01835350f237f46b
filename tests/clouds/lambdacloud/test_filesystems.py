"""Lambda's file systems as network volumes: made, mounted by their id, listed with who mounts them, deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.clouds.lambdacloud.conftest import LambdaAccount, error
from tests.clouds.played import PlayedApi
from trainyard.clouds.lambdacloud import LambdaCloud
from trainyard.clouds.protocol import OfferQuery, PodSpec
from trainyard.errors import CloudRefused, CloudUnknown, UserError

NAME = "trainyard-cache-0123abcd-us-west-1"
H100 = OfferQuery(gpus=("H100",))


def test_a_file_system_is_made_listed_and_deleted(cloud: LambdaCloud, account: LambdaAccount) -> None:
    made = cloud.volumes().create(NAME, "us-west-1", 60)
    assert (made.name, made.place, made.size_gb, made.per_month, made.attached) == (NAME, "us-west-1", 12.3, None, ())
    assert cloud.volumes().list() == [made]
    assert [(item.kind, item.id, item.per_hour, item.ours) for item in cloud.costs()] == [("volume", made.id, None, True)]
    cloud.volumes().delete(made.id)
    cloud.volumes().delete(made.id)
    assert not account.systems


def test_it_is_mounted_by_its_id_and_the_machine_says_where(cloud: LambdaCloud, api: PlayedApi, spec: Callable[..., PodSpec]) -> None:
    made = cloud.volumes().create(NAME, "us-west-1", 60)
    (offer,) = cloud.offers(replace(H100, volume=made.id))
    assert offer.region == "us-west-1" and len(cloud.offers(H100)) == 2
    pod = cloud.create(spec(volume=made.id), offer)
    launch = next(asked for asked in api.asked if asked.path.endswith("/launch"))
    assert launch.body["file_system_mounts"] == [{"mount_point": "/lambda/nfs/trainyard", "file_system_id": made.id}]
    assert pod.volume == "/lambda/nfs/trainyard"


def test_a_file_system_in_use_names_its_machines_or_says_that_there_are_some(
    cloud: LambdaCloud, account: LambdaAccount, spec: Callable[..., PodSpec]
) -> None:
    made = cloud.volumes().create(NAME, "us-west-1", 60)
    account.systems[made.id]["is_in_use"] = True
    assert cloud.volumes().list()[0].attached == ("",)
    pod = cloud.create(spec(volume=made.id), cloud.offers(replace(H100, volume=made.id))[0])
    account.instances[pod.id]["file_system_names"] = [NAME]
    assert cloud.volumes().list()[0].attached == (pod.id,)


@pytest.mark.parametrize(
    ("query", "says"),
    [(replace(H100, volume="x"), "has no file system 'x'"), (replace(H100, volume="made", regions=("us-east-1",)), "'regions' leaves out")],
)
def test_a_machine_is_offered_only_where_its_file_system_lies(cloud: LambdaCloud, query: OfferQuery, says: str) -> None:
    made = cloud.volumes().create(NAME, "us-west-1", 60)
    with pytest.raises(UserError, match=says):
        cloud.offers(replace(query, volume=made.id) if query.volume == "made" else query)


@pytest.mark.parametrize(
    ("answer", "raises"),
    [(error("global/quota-exceeded"), CloudRefused), (error("provider/internal-unknown", 500), CloudUnknown), ((200, {}), CloudUnknown)],
)
def test_what_a_create_has_answered_decides(
    cloud: LambdaCloud, account: LambdaAccount, api: PlayedApi, answer: tuple[int, object], raises: type[Exception]
) -> None:
    account.instead["POST /filesystems"] = lambda asked: answer
    with pytest.raises(raises):
        cloud.volumes().create(NAME, "us-west-1", 60)
    api.broken.clear()  # what it answered is of no specification
