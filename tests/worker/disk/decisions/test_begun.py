"""What a disk was given is reported once, or, when the disk was given up, not by a late answer."""

from __future__ import annotations

from hast.replication.types import READ, Request
from hast.worker.disk.decisions.begun import Begun


def test_what_was_given_up_is_reported_by_no_late_answer() -> None:
    begun, request = Begun(), Request(READ, 0, 512)
    number = begun.begin([request])
    assert begun.give_up() == [request]
    assert begun.end(number) is None
    assert len(begun) == 0


def test_what_the_disk_answered_is_not_given_up_later() -> None:
    begun, first, second = Begun(), Request(READ, 0, 512), Request(READ, 512, 512)
    number = begun.begin([first])
    begun.begin([second])
    piece = begun.end(number)
    assert piece is not None
    assert piece.requests == [first]
    assert begun.give_up() == [second]
