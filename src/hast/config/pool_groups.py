"""Resources that belong together: those that one pool of failover.conf lies on. Pure, no I/O.

Copies of one pool are worth something only as a whole: half a raidz of this node and half of the other is no pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hast.config.failover_model import ALL_RESOURCES, FailoverConfiguration


@dataclass(frozen=True, slots=True)
class PoolGroup:
    """`pools` lie on `resources`, two or more; names in file order."""

    pools: tuple[str, ...]
    resources: tuple[str, ...]

    def __str__(self) -> str:
        """`pool zhast (disk1 disk2 disk3)`."""
        return f"pool{'s' * (len(self.pools) > 1)} {' '.join(self.pools)} ({' '.join(self.resources)})"


def groups_of(configuration: FailoverConfiguration, known: Sequence[str]) -> tuple[PoolGroup, ...]:
    """Groups among the `known` resources of hastd; pools that share a resource make one group."""
    listed = known if configuration.resources == ALL_RESOURCES else configuration.resources
    groups: list[PoolGroup] = []
    for pool in configuration.pools:
        made = PoolGroup((pool.name,), tuple(name for name in pool.resources or listed if name in known))
        for other in [group for group in groups if set(group.resources) & set(made.resources)]:
            groups.remove(other)
            made = PoolGroup(_merged(other.pools, made.pools), _merged(other.resources, made.resources))
        groups.append(made)
    return tuple(group for group in groups if len(group.resources) > 1)


def _merged(first: Iterable[str], second: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
