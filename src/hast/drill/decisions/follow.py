"""What follows the master, made into what the lab can run: failover.conf and devd.conf. No I/O.

Pools become pools over the lab's devices; every command of the site (services, hooks, actions) is replaced, because
what it would do here is anybody's guess. Where there is a pool, the drill's own volume in it is what clients write to;
else the first resource, by NBD.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hast.config.devd_model import Match, Rule
from hast.config.failover_model import NbdExport, Pool, PoolKind
from hast.drill.decisions import ground
from hast.drill.decisions.site import Node, Site

Note = Callable[[str], None]

VOLUME_BYTES = 4096 * 4096
"""Places for records; as hast.lab.records has it."""
VOLUME = "python3 -m hast.drill.volume"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
_RESERVED = re.compile(r"(mirror|raidz|spare|log|c[0-9]).*")
_VERBS = frozenset({"master", "slave"})


@dataclass(frozen=True, slots=True)
class LabPool:
    """A pool of the lab. `on_zfs`: by zfs-fuse, else ext4 on the first resource."""

    name: str
    resources: tuple[str, ...]
    on_zfs: bool

    @property
    def mount(self) -> str:
        return f"{ground.POOLS}/{self.name}"


def pools_of(site: Site, zfs_fuse: bool, note: Note) -> tuple[LabPool, ...]:
    """Those of the first node; resources that hast.conf lacks do not count here (review.py names them)."""
    node = site.nodes[0]
    made: list[LabPool] = []
    for number, pool in enumerate(node.failover.pools, 1):
        resources = tuple(name for name in pool.resources or node.moved if name in site.resources)
        if not resources or pool.device is not None:
            note(f"pool {pool.name}: lies on another device, and is left out")
            continue
        name = pool.name if _PLAIN.fullmatch(pool.name) and not _RESERVED.match(pool.name) else f"pool{number}"
        on_zfs = pool.kind is PoolKind.ZFS and zfs_fuse
        if not on_zfs and not (pool.kind is PoolKind.FILESYSTEM and pool.fs_type in (None, "ext4")):
            here = "zfs-fuse is not installed here" if pool.kind is PoolKind.ZFS else "the lab cannot keep it apart"
            note(f"pool {pool.name} ({pool.kind}): {here}; an ext4 on {resources[0]} stands for it")
        made.append(LabPool(name, resources, on_zfs))
    return tuple(made)


# --- failover.conf ----------------------------------------------------------------------------------------------------


def failover_conf(node: Node, pools: Sequence[LabPool], note: Note) -> str:
    """What brings the site's pools, exports and services up in the lab."""
    own = node.failover
    lines = [f"resources {' '.join(map(_quoted, own.resources))}"]
    for keyword, seconds in (
        ("delay", own.delay_s),
        ("wait", own.wait_s),
        ("role-timeout", own.role_timeout_s),
        ("health", own.health_s),
    ):
        lines.append(f"{keyword} {seconds:g}")
    mine = [pool for pool in own.pools if pool.device is None]
    for pool, made in zip(mine, pools, strict=False):
        lines.append(_pool(pool, made, own.pools))
    lines += _exports(node, bool(pools), note)
    for number, service in enumerate(own.services, 1):
        note(f"service {service.name}: not started; a marker stands for it")
        marker = f"{ground.STAND_IN}-{number}"
        commands = f'start "touch {marker}" stop "rm -f {marker}" status "test -e {marker}"'
        lines.append(f"service stand-in-{number} {{ {commands} timeout {service.timeout_s:g} }}")
    for hook in own.hooks:
        note(f"hook {hook.when}: not run")
    if pools:
        lines.append(_volume(pools[0]))
    return "\n".join(lines) + "\n"


def _pool(pool: Pool, made: LabPool, all_pools: Sequence[Pool]) -> str:
    words = []
    if pool.resources or len(all_pools) > 1 or not made.on_zfs:
        words.append(f"resource {' '.join(map(_quoted, pool.resources or made.resources))}")
    if not made.on_zfs:
        words.append(f"type filesystem mount {made.mount} fstype ext4 fsck {_switch(pool.fsck)}")
    else:
        words.append(f"force {_switch(pool.force)}")
    if pool.kill_after_s is not None:
        words.append(f"kill {pool.kill_after_s:g}")
    words.append(f"timeout {pool.timeout_s:g}")
    return f"pool {made.name} {{ {' '.join(words)} }}"


def _exports(node: Node, measured_elsewhere: bool, note: Note) -> Iterable[str]:
    """NBD exports stay; the measured one has the port that clients of the drill know."""
    ports = iter(ground.FURTHER_PORTS)
    measured = measured_elsewhere
    for export in node.failover.exports:
        if not isinstance(export, NbdExport):
            note(f"export iscsi {export.iqn}: not served; clients of the drill use NBD")
            continue
        if export.tls is not None:
            note(f"export nbd {export.resource}: its keys are not used; it is served without TLS")
        port = next(ports) if measured else ground.PORT
        measured = True
        yield _export(export.resource, port, export.timeout_s)
    if not measured and node.moved:
        note(f"nothing is served in failover.conf: clients of the drill use {node.moved[0]} by NBD")
        yield _export(node.moved[0], ground.PORT, 20.0)


def _export(resource: str, port: int, timeout_s: float) -> str:
    listen = f"listen {ground.FIRST_SHARED}:{port} allow {ground.NETWORKS[0]}"
    return f"export nbd {_quoted(resource)} {{ {listen} timeout {timeout_s:g} }}"


def _volume(pool: LabPool) -> str:
    """The service that clients of the drill write to, in the first pool."""
    words = f"{pool.mount}/volume {VOLUME_BYTES} {ground.FIRST_SHARED} {ground.PORT} {ground.PIDFILE}"
    commands = f'start "{VOLUME} start {words}" stop "{VOLUME} stop {words}" status "{VOLUME} status {words}"'
    return f"service drill-volume {{ {commands} }}"


def _switch(on: bool) -> str:
    return "on" if on else "off"


def _quoted(name: str) -> str:
    return f'"{name}"' if not _PLAIN.fullmatch(name) else name


# --- devd.conf --------------------------------------------------------------------------------------------------------


def devd_conf(node: Node, note: Note) -> str:
    """The site's rules, with the lab's interface for the site's, and actions that call `failover` or do nothing."""
    interfaces = {group.interface for group in node.carp.groups}
    text = ""
    for rule in node.devd.rules:
        if any("/" in match.regex for match in rule.matches):
            note(f"the rule at {rule.location}: about files of this machine, and is left out")
        else:
            text += _rule(rule, interfaces, note)
    return text


def _rule(rule: Rule, interfaces: set[str], note: Note) -> str:
    lines = [f"{rule.kind} {rule.priority} {{"]
    for match in rule.matches:
        lines.append(f'\tmatch "{match.variable}" "{_expression(match, interfaces)}";')
    for action in rule.actions:
        lines.append(f'\taction "{lab_action(action, note)}";')
    return "\n".join([*lines, "};"]) + "\n"


def _expression(match: Match, interfaces: set[str]) -> str:
    regex = ground.PUB if match.regex in interfaces else match.regex
    return ("!" if match.negated else "") + regex.replace('"', '\\"').replace("$", "$$")


def lab_action(action: str, note: Note) -> str:
    """`failover master` for whatever the site calls its program; `true` for anything else."""
    verb = failover_verb(action)
    if verb is None:
        note(f"devd.conf: action {action.split()[0]!r}: not run")
        return "true"
    if not re.match(r"\s*(/\S*/)?failover\s", action):
        note(f"devd.conf: {action.strip()!r}: hast's own failover {verb} runs in its place")
    return f"failover {verb}"


def failover_verb(action: str) -> str | None:
    """`master` or `slave`, if the action calls a fail-over program with it."""
    try:
        words = shlex.split(action)
    except ValueError:
        return None
    for program, verb in pairwise(words):
        if "failover" in program.rsplit("/", 1)[-1] and verb in _VERBS:
            return verb
    return None
