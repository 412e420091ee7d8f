"""What an earlier failover.conf brought up and today's no longer names: it is remembered, and `slave` takes it down.

The state file of the last run (failover/state.py) holds the text of its configuration and of those before that were not
taken down since. So a pool that was removed from the file while it is up is not forgotten, and a file with a mistake
does not keep a node from failing over: the one before counts. Decides nothing about order, does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hast.config.failover_model import ALL_RESOURCES, FailoverConfiguration, IscsiExport, NbdExport, Pool, Service
from hast.election.failover import Outcome, Verb

MAX_FORMER = 5
SUFFIX = " (former configuration)"
WHERE = "failover.conf of the last run"


@dataclass(frozen=True, slots=True)
class Leftover:
    """Parts of earlier configurations that today's does not have."""

    resources: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()
    exports: tuple[NbdExport | IscsiExport, ...] = ()
    services: tuple[Service, ...] = ()


def remembered(last: Mapping[str, Any], otherwise: Iterable[str] = ()) -> list[str]:
    """The resources of the last run, of which `all` may have come to mean others since; `otherwise` without a run."""
    names = last.get("resources")
    return [str(name) for name in (names if isinstance(names, list) else otherwise)]


def last_text(last: Mapping[str, Any]) -> str | None:
    """The configuration of the last run; None when there was no run."""
    text = last.get("configuration")
    return text if isinstance(text, str) else None


def former_texts(last: Mapping[str, Any], current: str) -> list[str]:
    """Earlier configurations, the oldest first, whose parts may still be up. `last`: the state of the last run."""
    if last.get("verb") == Verb.SLAVE and last.get("phase") == Outcome.DONE:
        return []
    known = last.get("former")
    texts = [text for text in known if isinstance(text, str)] if isinstance(known, list) else []
    newest = last_text(last)
    found = [text for text in dict.fromkeys([*texts, *([newest] if newest else [])]) if text != current]
    return found[-MAX_FORMER:]


def leftover(current: FailoverConfiguration, last: Mapping[str, Any]) -> Leftover:
    """What may be up and is not in `current`."""
    texts = former_texts(last, current.text)
    if not texts:
        return Leftover()
    from hast.config.failoverconf import parse
    from hast.config.model import ConfigError

    former = []
    for text in texts:
        try:
            former.append(parse(text, WHERE))
        except ConfigError:
            continue
    return Leftover(
        tuple(_others(current.resources, (name for each in former for name in _listed(each)), str)),
        tuple(_others(current.pools, (pool for each in former for pool in each.pools), _pool_identity)),
        tuple(_others(current.exports, (export for each in former for export in each.exports), _export_identity)),
        tuple(_others(current.services, (service for each in former for service in each.services), _service_identity)),
    )


def _listed(configuration: FailoverConfiguration) -> tuple[str, ...]:
    return () if configuration.resources == ALL_RESOURCES else configuration.resources


def _others(current: Iterable[Any], former: Iterable[Any], identity: Any) -> list[Any]:
    now = {identity(each) for each in current}
    return list({identity(each): each for each in former if identity(each) not in now}.values())


def _pool_identity(pool: Pool) -> tuple[object, ...]:
    return pool.kind, pool.name, pool.mount, pool.device


def _export_identity(export: NbdExport | IscsiExport) -> tuple[object, ...]:
    return (export.iqn, export.control_port) if isinstance(export, IscsiExport) else (export.resource,)


def _service_identity(service: Service) -> tuple[object, ...]:
    return service.name, service.unit
