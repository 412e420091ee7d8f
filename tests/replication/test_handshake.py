"""What the primary makes of messages 2 and 4."""

from __future__ import annotations

from typing import Any

import pytest
from driver import EXTENT, MAP, metadata

from hast.format.constants import OUR_FEATURES, SPLIT_BRAIN_TEXT, Feature, SyncSource
from hast.replication.handshake import (
    Accepted,
    FirstReply,
    Refused,
    SecondReplyValues,
    check_first_reply,
    check_second_reply,
)
from hast.replication.types import Peer

TOKEN = b"t" * 16
ACCEPTED = Accepted(2, TOKEN, OUR_FEATURES)


def test_message_2_agrees_on_version_token_and_common_features() -> None:
    assert check_first_reply(FirstReply(2, TOKEN, 0xFF), Feature.PING) == Accepted(2, TOKEN, Feature.PING)


def test_message_2_of_a_version_1_peer_has_no_version() -> None:
    assert check_first_reply(FirstReply(0, TOKEN), OUR_FEATURES) == Accepted(1, TOKEN, Feature.NONE)


@pytest.mark.parametrize(
    "reply", [FirstReply(3, TOKEN), FirstReply(2, None), FirstReply(2, b"short"), FirstReply(2, TOKEN + b"x")]
)
def test_message_2_that_makes_no_sense_is_refused(reply: FirstReply) -> None:
    with pytest.raises(Refused) as caught:
        check_first_reply(reply, OUR_FEATURES)
    assert not caught.value.busy


def test_message_2_of_a_peer_that_is_primary_itself_says_try_again() -> None:
    with pytest.raises(Refused, match="acts as primary") as caught:
        check_first_reply(FirstReply(errmsg="Remote node acts as primary", wait=True), OUR_FEATURES)
    assert caught.value.busy


def check(**changes: Any) -> Peer:
    good: dict[str, Any] = {
        "datasize_bytes": 64 * EXTENT,
        "extentsize_bytes": EXTENT,
        "localcnt": 1,
        "remotecnt": 2,
        "syncsrc": 1,
        "mapsize_bytes": MAP,
        "bitmap": bytes(MAP),
    }
    return check_second_reply(SecondReplyValues(**{**good, **changes}), ACCEPTED, metadata())


def test_message_4_tells_of_the_peer() -> None:
    peer = check(boot_id=b"boot")
    assert (peer.localcnt, peer.remotecnt, peer.syncsrc) == (1, 2, SyncSource.PRIMARY)
    assert peer.bitmap == bytes(MAP)
    assert peer.boot_id == b"boot"
    assert peer.features == OUR_FEATURES


def test_message_4_of_a_virgin_has_no_map() -> None:
    assert check(mapsize_bytes=0, bitmap=None, virgin=True).bitmap is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"datasize_bytes": 5}, "Data size differs between nodes (local=262144, remote=5)."),
        ({"datasize_bytes": None}, "Data size differs between nodes (local=262144, remote=None)."),
        ({"extentsize_bytes": 5}, "Extent size differs between nodes (local=4096, remote=5)."),
        ({"localcnt": None}, "The peer sent no counters."),
        ({"remotecnt": None}, "The peer sent no counters."),
        ({"syncsrc": 0}, "The peer sent an unknown sync source (0)."),
        ({"syncsrc": 9}, "The peer sent an unknown sync source (9)."),
        ({"syncsrc": None}, "The peer sent an unknown sync source (None)."),
        ({"syncsrc": 2, "virgin": True}, "A peer that was never connected claims to have the newer data."),
        ({"mapsize_bytes": 7}, "The peer's map is too short (7 bytes, 8 needed)."),
        ({"bitmap": None}, "The peer announced a map and did not send it."),
        ({"bitmap": b"1234567"}, "The peer announced a map and did not send it."),
        ({"errmsg": "Resource unique ID mismatch"}, "Resource unique ID mismatch"),
    ],
)
def test_s12_message_4_that_makes_no_sense_is_refused_with_a_reason(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(Refused) as caught:
        check(**changes)
    assert str(caught.value) == text
    assert not caught.value.split_brain


def test_message_4_split_brain_is_told_apart() -> None:
    with pytest.raises(Refused) as caught:
        check(errmsg=SPLIT_BRAIN_TEXT)
    assert caught.value.split_brain
