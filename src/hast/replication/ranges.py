"""The order of overlapping operations (S5): it starts when nothing before it that overlaps is unfinished.

Both engines use it. On the primary an operation leaves the table when both copies have confirmed it, so that two
overlapping writes are never under way together and each node applies them in the same order.
"""

from __future__ import annotations

from hast.replication.types import Request

_SHIFT = 17
_WIDE_BUCKETS = 64


class RangeTable:
    """Operations under way or waiting, found by 128 KiB bucket; those over 8 MiB are kept in a list of their own."""

    __slots__ = ("_buckets", "_wide", "size")

    def __init__(self) -> None:
        self._buckets: dict[int, list[Request]] = {}
        self._wide: list[Request] = []
        self.size = 0

    def add(self, request: Request) -> bool:
        """Enter an operation; True when it may start now. Otherwise `release` of the last blocker returns it."""
        return bool(self.add_all([request]))

    def add_all(self, batch: list[Request]) -> list[Request]:
        """Enter operations, in order; those that may start now."""
        self.size += len(batch)
        buckets, wide = self._buckets, self._wide
        free: list[Request] = []
        for request in batch:
            offset = request.offset
            first = offset >> _SHIFT
            last = (offset + request.length - 1) >> _SHIFT
            if first == last and first not in buckets and not wide:
                buckets[first] = [request]
                free.append(request)
            elif self._add_among(request, first, last):
                free.append(request)
        return free

    def is_free(self, offset: int, length: int) -> bool:
        """No operation that overlaps this is under way, or waits."""
        if not self.size:
            return True
        end = offset + length
        near = list(self._wide)
        for index in range(offset >> _SHIFT, ((end - 1) >> _SHIFT) + 1):
            near += self._buckets.get(index, ())
        return not any(other.offset < end and offset < other.offset + other.length for other in near)

    def release(self, request: Request) -> list[Request]:
        """The operation is over: take it out and return those that may start now, oldest first."""
        return self.release_all([request])

    def release_all(self, batch: list[Request]) -> list[Request]:
        """These are over, in this order."""
        self.size -= len(batch)
        buckets = self._buckets
        freed: list[Request] = []
        for request in batch:
            offset = request.offset
            first = offset >> _SHIFT
            last = (offset + request.length - 1) >> _SHIFT
            if first == last and len(buckets[first]) == 1:
                del buckets[first]
            else:
                self._remove_from_among(request, first, last)
            if request.waiters is not None:
                freed += self._unblock(request)
        return freed

    def _remove_from_among(self, request: Request, first: int, last: int) -> None:
        if last - first >= _WIDE_BUCKETS:
            self._wide.remove(request)
            return
        buckets = self._buckets
        for index in range(first, last + 1):
            bucket = buckets[index]
            if len(bucket) == 1:
                del buckets[index]
            else:
                bucket.remove(request)

    @staticmethod
    def _unblock(request: Request) -> list[Request]:
        waiters, request.waiters = request.waiters or [], None
        for waiter in waiters:
            waiter.blockers -= 1
        return [waiter for waiter in waiters if waiter.blockers == 0]

    def _add_among(self, request: Request, first: int, last: int) -> bool:
        blockers: list[Request] = []
        if last - first >= _WIDE_BUCKETS:
            for bucket in self._buckets.values():
                blockers.extend(bucket)
        else:
            for index in range(first, last + 1):
                bucket = self._buckets.setdefault(index, [])
                blockers.extend(bucket)
                bucket.append(request)
        blockers.extend(self._wide)
        if last - first >= _WIDE_BUCKETS:
            self._wide.append(request)
        return not self._block_on(request, list(dict.fromkeys(blockers)))

    @staticmethod
    def _block_on(request: Request, others: list[Request]) -> bool:
        start = request.offset
        end = start + request.length
        blocked = False
        for other in others:
            if other.offset < end and start < other.offset + other.length:
                if other.waiters is None:
                    other.waiters = [request]
                else:
                    other.waiters.append(request)
                request.blockers += 1
                blocked = True
        return blocked
