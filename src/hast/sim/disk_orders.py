"""`hastctl detach`, `attach` and `replace`: on the decisions that ship, for a primary in the order that ships, too.

What a secondary does without its worker is in the words of supervisor/disk_orders.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hast.format.constants import Role
from hast.replication.disk_service import full_map, replacement_of
from hast.replication.primary import Primary
from hast.replication.secondary import Secondary
from hast.replication.types import Metadata, Store
from hast.sim.disk import MAP_OFFSET_BYTES
from hast.sim.node import Node
from hast.sim.small import fresh_metadata
from hast.worker.disk.decisions.change import Answer, Change, Opening

if TYPE_CHECKING:
    from hast.sim.cluster import Cluster

OPEN_S = 0.02


@dataclass(frozen=True, slots=True)
class Opened:
    """The disk of the node, or an empty one in its place."""

    metadata: Metadata
    path: str = "the disk"

    def close(self) -> None:
        """Nothing holds it."""


class DiskSteps:
    """Of the worker that a node has now; what it began ends with it."""

    def __init__(self, node: Node, orders: DiskOrders) -> None:
        self._node = node
        self._orders = orders
        self._life = node.life

    @property
    def alive(self) -> bool:
        return self._node.life == self._life

    @property
    def engine(self) -> Primary:
        assert isinstance(self._node.engine, Primary)
        return self._node.engine

    def now(self) -> float:
        return self._node.world.now

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        def due() -> None:
            if self.alive:
                call()
                self._node.pump()

        self._node.world.after(delay_s, due)

    def is_idle(self) -> bool:
        return self._node.provider.idle

    def retire(self, last: Store) -> None:
        self._node.watcher.gives_way(self._node)
        self._node.provider.retire(last)

    def flush_and_close(self, then: Callable[[], None]) -> None:
        self._node.provider.flush_for_good(lambda: self.later(0.0, then))

    def close_former(self) -> bool:
        return not (self._node.disk.hung or self._node.left_something)

    def open(self, source: Metadata | None, use: Opening, then: Callable[[Opened], None], failed: Answer) -> None:
        """`source`: what is written on the disk that takes the place of the present one."""
        node, present = self._node, self.engine.core.meta

        def opened() -> None:
            if node.disk.hung and use is Opening.KNOWN:
                failed("it does not answer")
            elif use is Opening.REPLACE:
                self._orders.swap(node, replacement_of(present))
                image = full_map(present)
                node.disk.store(MAP_OFFSET_BYTES, image, node.disk.write(MAP_OFFSET_BYTES, image))
                then(Opened(node.disk.metadata))
            else:
                then(Opened(node.disk.metadata))

        self.later(OPEN_S, opened)

    def put(self, disk: Opened) -> bool:
        self._node.open_disk()
        self._node.detached = False
        return self._node.flush_doubtful

    def begin_anew(self, reason: str) -> None:
        self._orders.on_begins_anew(self._node)


class DiskOrders:
    """One at a time for each node; an order ends with the worker that carries it out."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._changes: dict[str, tuple[DiskSteps, Change[Opened, Metadata | None]]] = {}
        """Node → the orders of the worker that it had when one was given last."""
        self.on_replaced: Callable[[Node], None] = lambda node: None
        self.on_begins_anew: Callable[[Node], None] = lambda node: None

    def is_busy(self, node: Node) -> bool:
        steps, change = self._changes.get(node.name, (None, None))
        return steps is not None and change is not None and steps.alive and change.busy

    def detach(self, node: Node) -> bool:
        """False when it is refused at once."""
        if not self._is_ordered(node) or node.detached:
            return False
        if isinstance(node.engine, Primary):

            def over(error: str) -> None:
                node.detached = not error
                self._over(node, "detach", error)

            return self._order(node, lambda change: change.detach(over))
        if not self._may_leave(node):
            return False
        self._stop_secondary(node)
        node.detached = True
        return True

    def attach(self, node: Node) -> bool:
        if not self._is_ordered(node):
            return False
        if isinstance(node.engine, Primary):
            return self._order(
                node, lambda change: change.attach(None, lambda error: self._over(node, "attach", error))
            )
        was, node.detached = node.detached, False
        return was

    def replace(self, node: Node) -> bool:
        """By a disk that is empty."""
        if not self._is_ordered(node):
            return False
        if isinstance(node.engine, Primary):
            return self._order(
                node, lambda change: change.replace(None, lambda error: self._over(node, "replace", error))
            )
        if not self._may_leave(node):
            return False
        self._stop_secondary(node)
        self.swap(node, fresh_metadata())
        node.detached = False
        return True

    # -- the worker of a primary ------------------------------------------------------------------------------------

    def _is_ordered(self, node: Node) -> bool:
        cluster = self._cluster
        away = cluster.orphans.names | cluster.stopped | cluster.stopping
        return node.up and node.name not in away and not self.is_busy(node)

    def _order(self, node: Node, give: Callable[[Change[Opened, Metadata | None]], None]) -> bool:
        """False when it was answered at once."""
        steps = DiskSteps(node, self)
        change: Change[Opened, Metadata | None] = Change(steps)
        life = node.life
        self._changes[node.name] = steps, change
        give(change)
        begun = change.busy or node.life != life
        if node.life == life:
            node.pump()
        return begun

    def _over(self, node: Node, what: str, error: str) -> None:
        self._world.note(f"{node.name}: hastctl {what}: {error or 'done'}")

    # -- a secondary ------------------------------------------------------------------------------------------------

    def _may_leave(self, node: Node) -> bool:
        if self._cluster.roles[node.name] is not Role.SECONDARY:
            return False
        return not (isinstance(node.engine, Secondary) and node.engine.why_not_release_disk())

    def _stop_secondary(self, node: Node) -> None:
        self._world.note(f"{node.name}: the disk of a secondary is changed")
        if self._cluster.link is not None and self._cluster.link.secondary is node:
            self._cluster.cut("the disk of the secondary is changed")
        node.stop()

    def swap(self, node: Node, metadata: Metadata) -> None:
        """Another disk in the place of the present one."""
        node.swap_disk(metadata)
        self.on_replaced(node)
