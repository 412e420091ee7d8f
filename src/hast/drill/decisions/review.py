"""What is wrong with a site before anything is tried: both nodes' views held against each other. No I/O.

`hastctl check`, `failover check` and `carpd -t` look at one file of one node; here the mistakes between files and
between nodes are named. Each finding says which steps of a rehearsal it would explain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from hast.config.address import AddressError, parse_address
from hast.config.carp_model import VirtualHost
from hast.config.devd_model import Rule, RuleKind
from hast.config.failover_model import ALL_RESOURCES, PoolKind
from hast.config.model import ArbiterKind
from hast.drill.decisions.follow import failover_verb
from hast.drill.decisions.site import Node, Site
from hast.format.constants import Replication

SHORT_TIMEOUT_S = 2
"""A connection is given up before TCP has sent a lost segment a third time."""


class Weight(StrEnum):
    """How much a finding weighs: the service does not fail over as meant, or it may; or a choice that has a price."""

    MISTAKE = "mistake"
    DOUBT = "doubt"
    PRICE = "price"


@dataclass(frozen=True, slots=True)
class Finding:
    """`setting`: file and statement. `explains`: kinds of steps whose failure it would explain (rehearsal.Kind)."""

    weight: Weight
    setting: str
    text: str
    explains: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.weight}: {self.setting}: {self.text}"


EVERY_MOVE = frozenset({"start", "move"})
LINK = frozenset({"start", "move", "link", "hiccup"})


def review(site: Site) -> tuple[Finding, ...]:
    """All findings, the heaviest first."""
    return heaviest_first(
        _merged([finding for look in LOOKS for finding in look(site)], [node.name for node in site.nodes])
    )


def heaviest_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """In the order of the weights, otherwise as they come."""
    order = list(Weight)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.weight)))


def _merged(findings: list[Finding], names: list[str]) -> list[Finding]:
    """What is said of both nodes is said once."""
    merged: list[Finding] = []
    for finding in findings:
        name, _, rest = finding.text.partition(": ")
        said = [replace(finding, text=f"{each}: {rest}") for each in names if name in names]
        both = replace(finding, text=f"both nodes: {rest}")
        if not said or not all(each in findings for each in said):
            merged.append(finding)
        elif both not in merged:
            merged.append(both)
    return merged


def mistake(setting: str, text: str, explains: Iterable[str] = EVERY_MOVE) -> Finding:
    return Finding(Weight.MISTAKE, setting, text, frozenset(explains))


def doubt(setting: str, text: str, explains: Iterable[str] = ()) -> Finding:
    return Finding(Weight.DOUBT, setting, text, frozenset(explains))


def price(setting: str, text: str) -> Finding:
    return Finding(Weight.PRICE, setting, text)


# --- carp.conf --------------------------------------------------------------------------------------------------------


def _pairs(site: Site) -> Iterator[tuple[VirtualHost, VirtualHost]]:
    """The same vhid on both nodes."""
    one, two = ({(group.vhid, number): group for number, group in enumerate(_sorted(node))} for node in site.nodes)
    for key in one.keys() & two.keys():
        yield one[key], two[key]


def _sorted(node: Node) -> list[VirtualHost]:
    return sorted(node.carp.groups, key=lambda group: group.vhid)


def vhids_on_both(site: Site) -> Iterator[Finding]:
    """A shared address that only one of them can have."""
    one, two = ({group.vhid for group in node.carp.groups} for node in site.nodes)
    for vhid in sorted(one ^ two):
        where = site.nodes[0 if vhid in one else 1].name
        yield mistake(f"carp.conf, vhid {vhid}", f"only {where} takes part: nobody takes its address over")


def same_password(site: Site) -> Iterator[Finding]:
    """Each would take the other for a stranger."""
    for one, two in _pairs(site):
        if one.password != two.password:
            text = "the two nodes have different passwords: neither believes the other's advertisements"
            yield mistake(f"carp.conf, vhid {one.vhid}, pass", text)


def same_addresses(site: Site) -> Iterator[Finding]:
    """The addresses are part of what is signed."""
    for one, two in _pairs(site):
        if {each.ip for each in one.addresses} != {each.ip for each in two.addresses}:
            text = "the two nodes list different addresses: neither believes the other's advertisements"
            yield mistake(f"carp.conf, vhid {one.vhid}, address", text)


def one_is_preferred(site: Site) -> Iterator[Finding]:
    """Equal advskew: only chance and the lower source address decide."""
    for one, two in _pairs(site):
        if (one.advbase_s, one.advskew) != (two.advbase_s, two.advskew):
            continue
        setting = f"carp.conf, vhid {one.vhid}, advskew"
        if one.preempt and two.preempt:
            text = f"both nodes have advskew {one.advskew} and preempt on: no node is preferred, so preempt "
            yield mistake(setting, f"{text}decides nothing, and who is master after a start is chance", {"start"})
        else:
            yield doubt(setting, f"both nodes have advskew {one.advskew}: who is master after a start is chance")


def preempt_is_one_sided(site: Site) -> Iterator[Finding]:
    """The service moves again when its host returns."""
    for one, two in _pairs(site):
        better, worse = sorted((one, two), key=lambda group: (group.advbase_s, group.advskew))
        if worse.preempt and not better.preempt:
            yield doubt(
                f"carp.conf, vhid {one.vhid}, preempt", "only the node that is not preferred has it: it has no effect"
            )
        elif better.preempt and one.advskew != two.advskew:
            text = "on: the service moves back when the preferred node returns, a second pause for clients"
            yield price(f"carp.conf, vhid {one.vhid}, preempt", text)


def slow_detection(site: Site) -> Iterator[Finding]:
    """Three intervals are listened to before a silent master is given up."""
    for one, _two in _pairs(site):
        if one.advbase_s > 1:
            text = f"{one.advbase_s}: a silent master is missed after more than {3 * one.advbase_s} s (advbase 1: 3 s)"
            yield price(f"carp.conf, vhid {one.vhid}, advbase", text)


def data_is_watched(site: Site) -> Iterator[Finding]:
    """A vhid that knows nothing of the copies may choose the host with the old one."""
    for node in site.nodes:
        watched = {name for group in node.carp.groups for name in group.resources}
        unknown = sorted(watched - set(node.hast.resources))
        if unknown:
            yield mistake("carp.conf, resource", f"{node.name}: hast.conf has no resource {', '.join(unknown)}")
        unwatched = [name for name in node.moved if name in node.hast.resources and name not in watched]
        if unwatched:
            text = f"{node.name}: no vhid watches {', '.join(unwatched)}: its copy has no say in who becomes master"
            yield doubt("carp.conf, resource", text, {"double"})


# --- hast.conf and failover.conf --------------------------------------------------------------------------------------


def resources_on_both(site: Site) -> Iterator[Finding]:
    """Only with the other node's own files can they differ."""
    one, two = (node.hast.resources for node in site.nodes)
    for name in sorted(one.keys() ^ two.keys()):
        where = site.nodes[0 if name in one else 1].name
        yield mistake(f"hast.conf, resource {name}", f"only {where} has it: it has no second copy")
    for name in (name for name in one if name in two):
        for setting, get in SHARED.items():
            mine, theirs = get(one[name]), get(two[name])
            if mine != theirs:
                text = f"{mine} on {site.nodes[0].name}, {theirs} on {site.nodes[1].name}"
                yield doubt(f"hast.conf, resource {name}, {setting}", text, LINK)


SHARED: Mapping[str, Callable[..., object]] = {
    "replication": lambda resource: resource.replication,
    "timeout": lambda resource: resource.timeout_s,
    "arbiter": lambda resource: " ".join((resource.arbiter.kind, *resource.arbiter.targets)),
    "tls": lambda resource: resource.tls_in_words,
    "split-brain": lambda resource: resource.split_brain_policy,
    "name": lambda resource: resource.provider_name,
}


def ports_meet(site: Site) -> Iterator[Finding]:
    """What one connects to, the other listens on."""
    for node, peer in (site.nodes, site.nodes[::-1]):
        ports = {parse_address(text).port for text in peer.hast.listen}
        for resource in node.hast.resources.values():
            if not resource.remotes:
                text = f"{node.name}: remote none: nothing is replicated"
                yield mistake(f"hast.conf, resource {resource.name}, remote", text, LINK)
            for text in resource.remotes:
                port = _port(text)
                if port is not None and port not in ports:
                    told = f"{node.name} connects to port {port}, where {peer.name} does not listen"
                    yield mistake(f"hast.conf, resource {resource.name}, remote {text}", told, LINK)


def _port(text: str) -> int | None:
    try:
        return parse_address(text).port
    except AddressError:
        return None


def every_resource_moves(site: Site) -> Iterator[Finding]:
    """What hast.conf has and failover.conf does not name stays where it was."""
    for node in site.nodes:
        if node.failover.resources == ALL_RESOURCES:
            continue
        listed, known = set(node.failover.resources), set(node.hast.resources)
        for name in sorted(known - listed):
            text = f"{node.name}: {name} of hast.conf is missing: it gets no role, and a pool on it is not whole"
            yield mistake("failover.conf, resources", text)
        for name in sorted(listed - known):
            yield mistake("failover.conf, resources", f"{node.name}: hast.conf has no resource {name}")


def something_is_served(site: Site) -> Iterator[Finding]:
    """An address alone serves nobody."""
    for node in site.nodes:
        own = node.failover
        if not (own.pools or own.exports or own.services):
            yield doubt("failover.conf", f"{node.name}: neither pool nor export nor service follows the address")
        for pool in own.pools:
            if pool.kill_after_s is None and pool.kind is not PoolKind.LVM:
                text = f"{node.name}: no kill: a process that keeps it busy keeps the host from letting go"
                yield price(f"failover.conf, pool {pool.name}", text)
        if own.delay_s:
            yield price("failover.conf, delay", f"{own.delay_s:g}: every fail-over takes so many seconds longer")


def same_follow(site: Site) -> Iterator[Finding]:
    """Both have to bring up the same."""
    one, two = (node.failover for node in site.nodes)
    sets = {
        "pools": [{pool.name for pool in own.pools} for own in (one, two)],
        "services": [{service.name for service in own.services} for own in (one, two)],
    }
    for what, (mine, theirs) in sets.items():
        if mine != theirs:
            odd = ", ".join(sorted(mine ^ theirs))
            yield mistake(f"failover.conf, {what}", f"{odd}: only on one of the nodes: it does not survive a fail-over")


def timeouts(site: Site) -> Iterator[Finding]:
    """Too short: any hiccup ends the connection; long: clients wait so long when the other vanishes."""
    seen = set()
    for resource in site.nodes[0].hast.resources.values():
        if resource.timeout_s in seen:
            continue
        seen.add(resource.timeout_s)
        setting = f"hast.conf, timeout {resource.timeout_s}"
        if resource.timeout_s <= SHORT_TIMEOUT_S:
            text = (
                "too short: a hiccup of the network of a second or two ends replication, and each time one copy is old"
            )
            yield mistake(setting, text, {"hiccup", "link"})
        elif resource.timeout_s > 5:
            text = f"clients of the master wait up to {resource.timeout_s} s when the other vanishes without a word"
            yield price(setting, text)


def hasty_limits(site: Site) -> Iterator[Finding]:
    """Limits that ordinary work runs into."""
    for node in site.nodes:
        own = node.failover
        limits = [("wait", own.wait_s), ("role-timeout", own.role_timeout_s)]
        limits += [(f"pool {pool.name}, timeout", pool.timeout_s) for pool in own.pools]
        limits += [(f"service {service.name}, timeout", service.timeout_s) for service in own.services]
        for name, seconds in limits:
            if seconds < 5:
                text = f"{node.name}: {seconds:g} s is too short for a busy host: the fail-over is given up"
                yield mistake(f"failover.conf, {name}", text)


def safety(site: Site) -> Iterator[Finding]:
    """What a double failure costs by choice."""
    resources = site.nodes[0].hast.resources.values()
    modes = {resource.replication for resource in resources}
    if Replication.ASYNC in modes:
        text = "async: a lost master takes what the other had not confirmed with it"
        yield price("hast.conf, replication", text)
    if Replication.MEMSYNC in modes:
        text = "memsync: acknowledged when the other has it in memory: lost if both lose power at once"
        yield price("hast.conf, replication", text)
    if all(resource.arbiter.kind is ArbiterKind.NONE for resource in resources):
        text = "none: a host whose copy is old and that boots alone serves old data after wait-for-peer"
        yield price("hast.conf, arbiter", text)


# --- devd.conf --------------------------------------------------------------------------------------------------------

EVENTS = (("LINK_UP", "master"), ("LINK_DOWN", "slave"))
"""What carpd tells of a vhid, and what has to follow."""


def rules_follow(site: Site) -> Iterator[Finding]:
    """Each change of a vhid has a rule that calls failover, and the right way round."""
    for node in site.nodes:
        for group in node.carp.groups:
            for kind, wanted in EVENTS:
                event = {"system": "IFNET", "subsystem": group.name, "type": kind}
                rule = rule_for(node.devd.rules, event)
                setting = f"devd.conf, {group.name} {kind}"
                if rule is None:
                    yield mistake(setting, f"{node.name}: no rule matches: nothing follows the address")
                    continue
                verbs = {failover_verb(action) for action in rule.actions} - {None}
                if verbs != {wanted}:
                    text = f"the rule at {rule.location} calls {' and '.join(map(str, verbs)) or 'no failover'}"
                    yield mistake(setting, f"{node.name}: {text}, not failover {wanted}")


def rule_for(rules: Iterable[Rule], event: Mapping[str, str]) -> Rule | None:
    """The rule that would run: the largest priority, the first of equals."""
    fitting = [rule for rule in rules if rule.kind is RuleKind.NOTIFY and rule.accepts(event)]
    return max(fitting, key=lambda rule: rule.priority, default=None)


LOOKS: tuple[Callable[[Site], Iterable[Finding]], ...] = (
    vhids_on_both,
    same_password,
    same_addresses,
    one_is_preferred,
    preempt_is_one_sided,
    slow_detection,
    data_is_watched,
    resources_on_both,
    ports_meet,
    every_resource_moves,
    something_is_served,
    same_follow,
    timeouts,
    hasty_limits,
    safety,
    rules_follow,
)
