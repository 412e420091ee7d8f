"""errno numbers: Linux here, FreeBSD on the wire."""

from __future__ import annotations

import errno
import os

import pytest

from hast.format import errnos
from hast.format.errnos import to_freebsd, to_linux


@pytest.mark.parametrize(
    ("linux", "freebsd"),
    [
        (0, 0),
        (errno.EPERM, 1),
        (errno.EIO, 5),
        (errno.EINVAL, 22),
        (errno.ENOSPC, 28),
        (errno.EROFS, 30),
        (errno.EAGAIN, 35),
        (errno.EDEADLK, 11),
        (errno.EOPNOTSUPP, 45),
        (errno.ENOBUFS, 55),
        (errno.ENOTCONN, 57),
        (errno.ETIMEDOUT, 60),
        (errno.ECONNREFUSED, 61),
    ],
)
def test_numbers_are_translated_both_ways(linux: int, freebsd: int) -> None:
    assert to_freebsd(linux) == freebsd
    assert to_linux(freebsd) == linux


@pytest.mark.parametrize("number", [73, 79, 97, 200, -1, 32767])
def test_what_linux_does_not_have_is_eio(number: int) -> None:
    assert to_linux(number) == errno.EIO


@pytest.mark.parametrize("number", [errno.EKEYREVOKED, 4096, -5])
def test_what_freebsd_does_not_have_is_eio(number: int) -> None:
    assert to_freebsd(number) == errno.EIO


def test_every_translation_is_undone_by_the_other() -> None:
    for linux in range(1, 134):
        freebsd = to_freebsd(linux)
        assert 0 < freebsd < 98
        assert to_linux(freebsd) in (linux, errno.EIO)


@pytest.mark.parametrize("number", errnos.NAMED)
def test_words_of_what_disks_say_are_those_of_the_system(number: int) -> None:
    assert errnos.words(number) == os.strerror(number)


def test_other_numbers_have_their_name_or_the_number() -> None:
    assert errnos.words(errno.EXDEV) == "error EXDEV"
    assert errnos.words(9999) == "error 9999"
