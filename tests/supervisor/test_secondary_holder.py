"""Which connection A belongs to a message 3."""

from __future__ import annotations

import socket
from typing import Any, cast

import pytest

from hast.supervisor.secondary_holder import PendingConnection, SecondaryHolder
from hast.supervisor.worker_process import WorkerError


def pending(token: bytes) -> PendingConnection:
    return PendingConnection(socket.socket(), token, 2, 0, "127.0.0.1")


@pytest.fixture
def holder() -> SecondaryHolder:
    return SecondaryHolder("disk1", cast(Any, None), cast(Any, None))


def test_only_its_own_token_admits_a_connection(holder: SecondaryHolder) -> None:
    """Another connection A may have come while the first one's message 3 waited for its turn."""
    first, second = pending(bytes(16)), pending(bytes([1] * 16))
    holder.wait_for_second(first)
    holder.wait_for_second(second)
    with pytest.raises(WorkerError, match="Token doesn't match"):
        holder.admit(first.token)
    assert holder.admit(second.token) is second
    second.sock.close()
    with pytest.raises(WorkerError, match="Token doesn't match"):
        holder.admit(second.token)
