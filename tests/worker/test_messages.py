"""A resource on its way between hastd and its workers, of this release and of others."""

from __future__ import annotations

import dataclasses
import json

import pytest

from hast.config.model import Arbiter, ArbiterKind, CrashLoop, Device, DiskCache, Resource, SplitBrainPolicy, Tls
from hast.format.constants import Checksum, Compression, Replication
from hast.worker.messages import LATER, resource_from_json, resource_to_json

PLAIN = Resource("disk1", "disk1", "/dev/sdb", ())
OTHER = Resource(
    "disk1",
    "mail/disk1",
    "/dev/sdb",
    ("10.0.0.2",),
    "10.0.0.1",
    Replication.ASYNC,
    Checksum.SHA256,
    Compression.LZF,
    7,
    "/bin/true",
    False,
    Device.NBD,
    1000,
    True,
    8,
    9,
    Arbiter(ArbiterKind.WITNESS, ("10.0.0.9",), fingerprints=("ab",)),
    "/bin/fence",
    SplitBrainPolicy.DISCARD_LEAST_CHANGES,
    CrashLoop.FAIL,
    disk_cache=DiskCache.OFF,
    tls=Tls.REQUIRED,
    peer_fingerprints=("cd",),
)


def sent(resource: Resource) -> Resource:
    return resource_from_json(json.loads(json.dumps(resource_to_json(resource))))


@pytest.mark.parametrize("resource", [PLAIN, OTHER])
def test_every_setting_arrives_and_is_of_its_own_type(resource: Resource) -> None:
    arrived = sent(resource)
    for field in dataclasses.fields(resource):
        told, meant = getattr(arrived, field.name), getattr(resource, field.name)
        assert (told, type(told)) == (meant, type(meant)), field.name


def test_the_resource_that_is_tried_differs_from_the_plain_one_in_every_setting() -> None:
    same = {"name", "local"}
    for field in dataclasses.fields(PLAIN):
        assert (getattr(PLAIN, field.name) == getattr(OTHER, field.name)) == (field.name in same), field.name


def test_a_release_before_is_not_told_of_a_setting_that_asks_for_nothing_else_than_it_does() -> None:
    """It would refuse to take the worker over, and end it: a package put back would interrupt what it serves."""
    assert not LATER & resource_to_json(PLAIN).keys()
    assert resource_to_json(OTHER).keys() >= LATER


def test_a_worker_of_a_release_before_is_understood() -> None:
    earlier = {name: value for name, value in resource_to_json(OTHER).items() if name not in LATER}
    defaults = {field.name: field.default for field in dataclasses.fields(OTHER) if field.name in LATER}
    assert resource_from_json(earlier) == dataclasses.replace(OTHER, **defaults)  # type: ignore[arg-type]
