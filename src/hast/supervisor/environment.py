"""What all resources of one supervisor share."""

from __future__ import annotations

from dataclasses import dataclass

from hast.supervisor.arbiter_link import MakeDealings
from hast.supervisor.events import EventBus
from hast.supervisor.hooks import HookRunner
from hast.supervisor.pool_leave import PoolLeave
from hast.supervisor.pool_resolver import PoolResolver
from hast.supervisor.worker_pool import WorkerPool


@dataclass(slots=True)
class Environment:
    """Handed to every ResourceState."""

    events: EventBus
    hooks: HookRunner
    pool: WorkerPool
    resolver: PoolResolver
    leaves: PoolLeave
    foreground: bool
    debug: int
    make_dealings: MakeDealings | None = None
    """For resources with an arbiter or a fence program."""
    stopping: bool = False
    """hastd comes to its end: roles and connections are refused."""
