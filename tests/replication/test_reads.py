"""Where reads are served."""

from __future__ import annotations

from driver import EIO, EXTENT, MIB, SECTOR, TAKE_LEAD, Rig, image, metadata

from hast.format.constants import OUR_FEATURES, Feature, SyncSource
from hast.replication.types import READ, WRITE


def behind() -> Rig:
    """A primary that lacks extents 2 and 3; the synchronisation has not copied them yet."""
    rig = Rig(metadata(localcnt=0, remotecnt=0))
    rig.attach(localcnt=1, syncsrc=SyncSource.SECONDARY, bitmap=image(2, 3))
    return rig


def test_read_is_served_locally() -> None:
    rig = Rig()
    rig.connect()
    rig.disk.data[512:1024] = b"x" * 512
    request = rig.read(512)
    assert rig.local == [request]
    rig.finish_local()
    assert rig.finished == [request]
    assert request.data == b"x" * 512
    assert not rig.sent()


def test_read_that_fails_locally_is_served_by_the_peer() -> None:
    rig = Rig()
    rig.connect()
    request = rig.read(0, 1024)
    rig.finish_local(error=EIO)
    assert [item[:1] + item[2:4] for item in rig.sent()] == [(READ, 0, 1024)]
    rig.answer_remote(data=b"p" * 1024)
    assert rig.finished == [request]
    assert request.error == 0
    assert request.data == b"p" * 1024
    assert rig.engine.core.counters.read_errors == 1


def test_read_that_fails_locally_without_a_peer_is_an_error() -> None:
    rig = Rig()
    request = rig.read(0)
    rig.finish_local(error=EIO)
    assert rig.finished == [request]
    assert request.error == EIO


def test_read_that_fails_on_both_copies_is_an_error() -> None:
    rig = Rig()
    rig.connect()
    request = rig.read(0)
    rig.finish_local(error=EIO)
    rig.answer_remote(error=EIO)
    assert request.error == EIO
    assert rig.finished == [request]


def test_read_is_not_asked_of_a_peer_that_lacks_the_extent() -> None:
    rig = Rig()
    rig.connect()
    rig.write(0)
    rig.store_all()
    rig.finish_local()
    rig.answer_remote(error=EIO)
    rig.store_all()
    request = rig.read(0)
    rig.finish_local(error=EIO)
    assert request.error == EIO
    assert not rig.sent(READ)


def test_s6_extent_that_this_copy_lacks_is_read_from_the_peer() -> None:
    """Section 10.2: READs with syncsrc 2 hang, or are served stale from the local disk."""
    rig = behind()
    pieces = len(rig.sent(READ))
    lacking, other = rig.read(2 * EXTENT), rig.read(0)
    assert rig.local == [other]
    assert rig.sent(READ)[pieces][2] == 2 * EXTENT
    rig.reply(rig.sent(READ)[pieces][1], data=b"n" * SECTOR)
    assert lacking in rig.finished
    assert lacking.data == b"n" * SECTOR


def test_s6_read_that_touches_a_missing_extent_anywhere_goes_to_the_peer_whole() -> None:
    rig = behind()
    request = rig.read(EXTENT, 2 * EXTENT)
    assert request not in rig.local
    assert (EXTENT, 2 * EXTENT) in [item[2:4] for item in rig.sent(READ)]


def test_s6_missing_extent_is_an_error_when_the_peer_is_away() -> None:
    rig = behind()
    rig.lose()
    request = rig.read(2 * EXTENT)
    assert request.error == EIO
    assert request in rig.finished
    assert rig.read(0) in rig.local


def test_s6_missing_extent_asked_of_the_peer_when_the_link_drops_is_an_error() -> None:
    rig = behind()
    request = rig.read(2 * EXTENT)
    rig.lose()
    assert request in rig.finished
    assert request.error


def test_extent_is_read_locally_again_after_it_was_copied_and_flushed() -> None:
    rig = behind()
    rig.work()
    request = rig.read(2 * EXTENT)
    assert rig.local == [request]


def test_big_read_is_put_together_from_pieces_of_a_reference_peer() -> None:
    rig = Rig(metadata(datasize_bytes=8 * MIB, extentsize_bytes=MIB))
    rig.connect(Feature.NONE)
    request = rig.read(4096, 300 * 1024)
    rig.finish_local(error=EIO)
    items = rig.sent(READ)
    assert [item[3] for item in items] == [131072, 131072, 300 * 1024 - 262144]
    for number, item in reversed(list(enumerate(items))):
        rig.reply(item[1], data=bytes([number]) * item[3])
    assert request.error == 0
    assert request.data is not None
    assert bytes(request.data) == bytes(131072) + b"\1" * 131072 + b"\2" * (300 * 1024 - 262144)


def test_piece_of_a_wrong_length_or_without_data_is_an_error() -> None:
    for data in (b"short", None):
        rig = Rig()
        rig.connect()
        request = rig.read(0)
        rig.finish_local(error=EIO)
        rig.reply(rig.sent(READ)[0][1], data=data)
        assert request.error == EIO


def test_one_failed_piece_fails_the_read() -> None:
    rig = Rig(metadata(datasize_bytes=8 * MIB, extentsize_bytes=MIB))
    rig.connect(Feature.NONE)
    request = rig.read(0, 2 * 131072)
    rig.finish_local(error=EIO)
    first, second = rig.sent(READ)
    rig.reply(first[1], error=EIO)
    assert not rig.finished
    rig.reply(second[1], data=bytes(131072))
    assert request.error == EIO
    assert not rig.engine.core._pieces, "pieces of failed reads are remembered for ever"


def test_s6_local_write_failure_makes_the_peer_serve_its_reads() -> None:
    rig = Rig()
    rig.connect(OUR_FEATURES)
    rig.write(0)
    rig.store_all()
    rig.finish_local(error=EIO)
    rig.reply(rig.sent(WRITE)[0][1])
    rig.reply(rig.sent(TAKE_LEAD)[0][1])
    request = rig.read(0)
    assert request not in rig.local
    assert rig.sent(READ)[-1][2] == 0
    assert rig.engine.status()["stale"]
    assert rig.engine.status()["local_missing"] == EXTENT
