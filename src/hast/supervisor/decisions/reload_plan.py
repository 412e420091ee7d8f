"""What a changed configuration means for running resources (specification section 8.6). Pure: compares, acts not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from hast.config.model import Configuration, Resource
from hast.format.constants import Role

RESTART_PRIMARY = frozenset({"provider_name", "local", "device"})
"""Changes that a primary cannot take live: its device goes and comes back."""
LIVE_ALWAYS = frozenset(
    {
        "device",
        "sync_rate_bytes_s",
        "read_balancing",
        "wait_for_peer_s",
        "disk_timeout_s",
        "disk_cache",
        "arbiter",
        "fence_path",
        "split_brain_policy",
        "crash_loop",
        "tls",
        "peer_fingerprints",
    }
)
"""Keywords that the reference does not know; they never cost a secondary its connection, but for one not secured as
they say, which its worker ends."""


@dataclass(frozen=True, slots=True)
class ReloadPlan:
    """Names of resources, in the order of the files."""

    removed: tuple[str, ...]
    added: tuple[str, ...]
    restarted: tuple[str, ...]
    """Role init, then the old role again with the new settings."""
    live: tuple[str, ...]
    """Changed in place."""
    listen_added: tuple[str, ...]
    listen_removed: tuple[str, ...]
    control_changed: bool
    pidfile_changed: bool


def changed_fields(old: Resource, new: Resource) -> frozenset[str]:
    """Names of the settings that differ."""
    return frozenset(each.name for each in fields(Resource) if getattr(old, each.name) != getattr(new, each.name))


def changes(old: Resource, new: Resource) -> str:
    """What differs, for the log: `timeout 20 -> 7`."""
    texts = []
    for name in sorted(changed_fields(old, new)):
        before, after = _text(getattr(old, name)), _text(getattr(new, name))
        texts.append(f"{name.removesuffix('_s')} {before} -> {after}")
    return ", ".join(texts)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def needs_restart(old: Resource, new: Resource, role: Role) -> bool:
    """Whether the change takes the resource through role init."""
    changed = changed_fields(old, new)
    if role is Role.PRIMARY:
        return bool(changed & RESTART_PRIMARY)
    return bool(changed - LIVE_ALWAYS)


def plan(old: Configuration, new: Configuration, roles: Mapping[str, Role]) -> ReloadPlan:
    """Compare two configurations, given the present role of each resource."""
    kept = [name for name in new.resources if name in old.resources]
    changed = [name for name in kept if old.resources[name] != new.resources[name]]
    restarted = tuple(
        name for name in changed if needs_restart(old.resources[name], new.resources[name], roles.get(name, Role.INIT))
    )
    return ReloadPlan(
        removed=tuple(name for name in old.resources if name not in new.resources),
        added=tuple(name for name in new.resources if name not in old.resources),
        restarted=restarted,
        live=tuple(name for name in changed if name not in restarted),
        listen_added=tuple(address for address in new.listen if address not in old.listen),
        listen_removed=tuple(address for address in old.listen if address not in new.listen),
        control_changed=old.control != new.control,
        pidfile_changed=old.pidfile != new.pidfile,
    )


def with_disks(configuration: Configuration, disks: Mapping[str, str]) -> Configuration:
    """With the disks that the resources use by now (`hastctl replace`)."""
    resources = {
        name: replace(resource, local=disks.get(name, resource.local))
        for name, resource in configuration.resources.items()
    }
    return replace(configuration, resources=resources)


def keep_present(new: Configuration, old: Configuration, *, control: bool, pidfile: bool) -> Configuration:
    """The new configuration with what could not be moved as it was."""
    return replace(
        new, control=old.control if control else new.control, pidfile=old.pidfile if pidfile else new.pidfile
    )
