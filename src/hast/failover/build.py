"""From failover.conf to the stages of a run: which adapter stands for which statement, and what comes before what.

Order of `master`: hooks, delay, roles (all at once), devices (all at once), pools in file order (neighbours that do not
lie on each other at once), exports (all at once), services (one after the other), hooks. `slave` is the reverse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hast.config.failover_model import (
    ALL_RESOURCES,
    FailoverConfiguration,
    HookTime,
    IscsiExport,
    NbdExport,
    Pool,
    PoolKind,
    Service,
)
from hast.daemon import paths
from hast.election.failover import Item
from hast.failover.exports.virtual_address import virtual_addresses
from hast.failover.former import SUFFIX, Leftover
from hast.failover.hastd import Hastd, HastdError
from hast.failover.isolation import Isolation
from hast.failover.part import Part
from hast.failover.roles import DelayPart, DevicePart, RolePart

STATUS_S = 5.0
P = TypeVar("P", bound=Part)


class Stages:
    """The stages as the plan sees them (`items`) and what carries them out (`parts`, by item name)."""

    def __init__(self, resources: Sequence[str]) -> None:
        self.resources = tuple(resources)
        self.items: list[list[Item]] = []
        self.parts: dict[str, Part] = {}
        self.switched_after = ""
        """Item after whose step the resources count as switched to primary."""
        self.former: set[str] = set()
        """Items that only an earlier configuration has: they are for taking down."""

    def add(self, *stage: tuple[Part, frozenset[str]]) -> None:
        """Append a stage of parts and the names that each needs."""
        self.items.append([Item(part.name, needs, part.can_hang) for part, needs in stage])
        self.parts |= {part.name: part for part, _ in stage}


def build(
    configuration: FailoverConfiguration,
    remembered: Sequence[str] = (),
    isolation: Isolation | None = None,
    left: Leftover | None = None,
) -> Stages:
    """Make the parts. `remembered` are resources to fall back on when hastd is to name them but does not answer.

    `isolation`: of a node that gives its role up because no client can reach it. `left`: what an earlier configuration
    may have brought up, for status and slave.

    Raises HastdError when there are none of those either.
    """
    hastd = Hastd(configuration.control)
    left = left or Leftover()
    resources, providers = _resources(configuration, hastd, remembered)
    left = replace(left, resources=tuple(name for name in left.resources if name not in resources))
    stages = Stages(resources)
    _add_hooks(stages, configuration, "first", HookTime.BEFORE_MASTER, HookTime.AFTER_SLAVE)
    stages.add(*([(DelayPart(configuration.delay_s), frozenset())] if configuration.delay_s else []))
    at = {name: paths.device_path(providers.get(name, name)) for name in (*resources, *left.resources)}
    timeout_s = configuration.role_timeout_s
    roles = [RolePart(name, hastd, at[name], timeout_s, isolation) for name in resources]
    for name in left.resources:
        former = RolePart(name, hastd, at[name], timeout_s, isolation, may_be_unknown=True)
        roles.append(_former(stages, former))
    stages.add(*((role, frozenset()) for role in roles))
    devices = [DevicePart(name, at[name], configuration.wait_s) for name in _with_device(configuration, resources, at)]
    stages.add(*((device, frozenset()) for device in devices))
    stages.switched_after = (devices[-1].name if devices else f"role {resources[-1]}") if resources else ""
    for group in _groups(configuration.pools):
        stages.add(*((_pool(pool, resources, at), _needs(pool, resources)) for pool in group))
    for pool in left.pools:
        below = [name for name in pool.resources if name in at] or list(at)
        needs = frozenset(role.name for role, name in zip(roles, at, strict=True) if name in below)
        stages.add((_former(stages, _pool(replace(pool, resources=tuple(below)), below, at)), needs))
    exports = [_export(export) for export in configuration.exports]
    exports += [_former(stages, _export(export)) for export in left.exports]
    stages.add(*((export, frozenset()) for export in exports))
    for service in configuration.services:
        stages.add((_service(service), frozenset()))
    for service in left.services:
        stages.add((_former(stages, _service(service)), frozenset()))
    _add_hooks(stages, configuration, "last", HookTime.AFTER_MASTER, HookTime.BEFORE_SLAVE)
    return stages


def _former(stages: Stages, part: P) -> P:
    part.name += SUFFIX
    stages.former.add(part.name)
    return part


def _resources(
    configuration: FailoverConfiguration, hastd: Hastd, remembered: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Names of the resources, and those device names that are not the resource's."""
    if configuration.resources != ALL_RESOURCES:
        return configuration.resources, {}
    try:
        known = hastd.roles(STATUS_S)
    except HastdError:
        if not remembered:
            raise
        return tuple(remembered), {}
    return tuple(known), {name: str(entry.get("provname") or name) for name, entry in known.items()}


def _with_device(
    configuration: FailoverConfiguration, resources: Sequence[str], at: Mapping[str, Path]
) -> Sequence[str]:
    """Resources whose device somebody here uses; an NBD export takes hastd's socket instead."""
    pools, exports = configuration.pools, configuration.exports
    if any(not pool.resources for pool in pools) or not (pools or exports):
        return resources
    used = {name for pool in pools for name in pool.resources}
    paths_used = {lun.path for export in exports if isinstance(export, IscsiExport) for lun in export.luns}
    return [name for name in resources if name in used or str(at[name]) in paths_used]


def _groups(pools: Sequence[Pool]) -> list[list[Pool]]:
    """Neighbours of one kind that can be brought up at once."""
    groups: list[list[Pool]] = []
    for pool in pools:
        if groups and all(_independent(pool, other) for other in groups[-1]):
            groups[-1].append(pool)
        else:
            groups.append([pool])
    return groups


def _independent(one: Pool, other: Pool) -> bool:
    if one.kind is not other.kind or one.device or other.device:
        return False
    paths_below = (f"{one.mount}/".startswith(f"{other.mount}/"), f"{other.mount}/".startswith(f"{one.mount}/"))
    return one.mount is None or other.mount is None or not any(paths_below)


def _needs(pool: Pool, resources: Sequence[str]) -> frozenset[str]:
    return frozenset(f"role {name}" for name in (pool.resources or resources))


def _pool(pool: Pool, resources: Sequence[str], at: Mapping[str, Path]) -> Part:
    devices = [str(at[name]) for name in (pool.resources or resources)]
    directory = str(paths.device_directory())
    match pool.kind:
        case PoolKind.ZFS:
            from hast.failover.pools.zfs import ZfsPool

            return ZfsPool(pool, directory, devices)
        case PoolKind.BTRFS:
            from hast.failover.pools.btrfs import Btrfs

            return Btrfs(pool, devices)
        case PoolKind.LVM:
            from hast.failover.pools.lvm import VolumeGroup

            return VolumeGroup(pool, directory)
        case PoolKind.FILESYSTEM:
            from hast.failover.pools.filesystem import Filesystem

            return Filesystem(pool, pool.device or devices[0])


def _export(export: NbdExport | IscsiExport) -> Part:
    if isinstance(export, IscsiExport):
        from hast.failover.exports.iscsi import IscsiTarget

        return IscsiTarget(export)
    from hast.failover.exports.nbd import NbdOverTcp

    record = paths.resource_file(export.resource, "forward")
    otherwise = () if export.listen else virtual_addresses(export.resource)
    return NbdOverTcp(export, paths.nbd_socket(export.resource), record, otherwise)


def _service(service: Service) -> Part:
    from hast.failover.services import CommandService, UnitService

    return UnitService(service) if service.unit else CommandService(service)


def _add_hooks(stages: Stages, configuration: FailoverConfiguration, name: str, up: HookTime, down: HookTime) -> None:
    hooks = [[hook for hook in configuration.hooks if hook.when is when] for when in (up, down)]
    if not any(hooks):
        stages.add()
        return
    from hast.failover.services import HookPart

    stages.add((HookPart(f"{name} hooks", *hooks), frozenset()))
