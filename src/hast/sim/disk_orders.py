"""`hastctl detach`, `attach` and `replace`: the steps of worker/disk_change.py and supervisor/disk_orders.py, on the
decisions that ship.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hast.format.constants import Role
from hast.replication.disk_service import full_map, replacement_of
from hast.replication.primary import Primary
from hast.replication.secondary import Secondary
from hast.sim.disk import MAP_OFFSET_BYTES
from hast.sim.node import Node
from hast.sim.small import fresh_metadata

if TYPE_CHECKING:
    from hast.replication.types import Metadata
    from hast.sim.cluster import Cluster

POLL_S = 0.02
OPEN_S = 0.02
RELEASE_LIMIT_S = 10.0
RETIRE_LIMIT_S = 60.0


class DiskOrders:
    """One at a time for each node; an order ends with the worker that carries it out."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._busy: dict[str, int] = {}
        """Node → the life of the worker that changes its disk."""
        self.on_replaced: Callable[[Node], None] = lambda node: None
        self.on_begins_anew: Callable[[Node], None] = lambda node: None

    def is_busy(self, node: Node) -> bool:
        return self._busy.get(node.name) == node.life

    def detach(self, node: Node) -> bool:
        """False when it is refused at once."""
        if not self._is_ordered(node) or node.detached:
            return False
        if isinstance(node.engine, Primary):
            return self._release(node, lambda: self._detached(node))
        if not self._may_leave(node):
            return False
        self._stop_secondary(node)
        node.detached = True
        return True

    def attach(self, node: Node) -> bool:
        if not self._is_ordered(node):
            return False
        engine = node.engine
        if not isinstance(engine, Primary):
            was, node.detached = node.detached, False
            return was
        if engine.core.local_ok or node.disk.hung or node.left_something:
            return False
        if not engine.disk_is_behind:
            self._world.note(f"{node.name}: hastctl attach: another worker takes the disk")
            self.on_begins_anew(node)
            return True
        self._start(node, "attach")
        self._later(node, OPEN_S, lambda: self._take(node, node.disk.metadata))
        return True

    def replace(self, node: Node) -> bool:
        """By a disk that is empty."""
        if not self._is_ordered(node):
            return False
        engine = node.engine
        if isinstance(engine, Primary):
            metadata = engine.core.meta
            if not engine.core.local_ok:
                if not engine.disk_is_behind:
                    return False
                self._start(node, "replace")
                self._swap_and_take(node, metadata)
                return True
            return self._release(node, lambda: self._swap_and_take(node, metadata))
        if not self._may_leave(node):
            return False
        self._stop_secondary(node)
        self._swap(node, fresh_metadata())
        node.detached = False
        return True

    # -- the worker of a primary ------------------------------------------------------------------------------------

    def _is_ordered(self, node: Node) -> bool:
        cluster = self._cluster
        away = cluster.orphans.names | cluster.stopped | cluster.stopping
        return node.up and node.name not in away and not self.is_busy(node)

    def _start(self, node: Node, what: str) -> None:
        self._world.note(f"{node.name}: hastctl {what}")
        self._busy[node.name] = node.life

    def _over(self, node: Node, text: str) -> None:
        self._world.note(f"{node.name}: {text}")
        self._busy.pop(node.name, None)

    def _later(self, node: Node, delay_s: float, call: Callable[[], None]) -> None:
        life = node.life

        def due() -> None:
            if node.life == life:
                call()

        self._world.after(delay_s, due)

    def _await(
        self,
        node: Node,
        condition: Callable[[], bool],
        then: Callable[[], None],
        late: Callable[[], None],
        limit_s: float,
    ) -> None:
        until_s = self._world.now + limit_s

        def look() -> None:
            if condition():
                then()
            elif self._world.now >= until_s:
                late()
            else:
                self._later(node, POLL_S, look)

        look()

    def _release(self, node: Node, then: Callable[[], None]) -> bool:
        engine = node.engine
        assert isinstance(engine, Primary)
        complaint = engine.why_not_release_disk()
        if complaint:
            self._world.note(f"{node.name}: the disk is not let go: {complaint}")
            return False
        self._start(node, "detach or replace")
        engine.release_disk(self._world.now)
        node.pump()

        def keep() -> None:
            engine.keep_disk(self._world.now)
            node.pump()
            self._over(node, "the other node did not take the lead")

        def let_go() -> None:
            last = engine.drop_disk(self._world.now)
            node.watcher.gives_way(node)
            provider = node.provider
            provider.retire(last)
            node.pump()

            def close() -> None:
                self._later(node, 0.0, then)

            def idle() -> bool:
                return provider.idle

            self._await(
                node,
                idle,
                lambda: provider.flush_for_good(close),
                lambda: self._over(node, "the disk does not end what it began"),
                RETIRE_LIMIT_S,
            )

        self._await(node, lambda: engine.disk_released, let_go, keep, RELEASE_LIMIT_S)
        return True

    def _detached(self, node: Node) -> None:
        node.detached = True
        self._over(node, "the disk is out of service")

    def _swap_and_take(self, node: Node, metadata: Metadata) -> None:
        def written() -> None:
            self._swap(node, replacement_of(metadata))
            image = full_map(metadata)
            node.disk.store(MAP_OFFSET_BYTES, image, node.disk.write(MAP_OFFSET_BYTES, image))
            self._take(node, node.disk.metadata)

        self._later(node, OPEN_S, written)

    def _take(self, node: Node, metadata: Metadata) -> None:
        former = node.provider
        self._await(
            node,
            lambda: former.idle,
            lambda: self._put(node, metadata),
            lambda: self._over(node, "what the former disk has begun is not over"),
            RETIRE_LIMIT_S,
        )

    def _put(self, node: Node, metadata: Metadata) -> None:
        engine, now = node.engine, self._world.now
        assert isinstance(engine, Primary)
        complaint = engine.why_not_take_disk(metadata)
        if complaint or node.disk.hung:
            self._over(node, f"the disk is not taken into service: {complaint or 'it does not answer'}")
            return
        node.open_disk()
        node.detached = False
        everything = engine.disk_lacks_everything(metadata, node.flush_doubtful)
        engine.take_disk(everything, node.flush_doubtful, now)
        self._over(node, f"the disk is in service{', all of it to be filled' if everything else ''}")
        node.pump()

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

    def _swap(self, node: Node, metadata: Metadata) -> None:
        node.swap_disk(metadata)
        self.on_replaced(node)
