"""Adapters to arbiters: none, ping, witness, etcd. The rules are those of election/arbiter.py.

`make` gives the adapter that hast.conf asks for; each one implements `Arbiter` with a deadline on every call.
"""

from __future__ import annotations

from hast.config.model import Arbiter as Configured
from hast.config.model import ArbiterKind
from hast.election.arbiter import Arbiter
from hast.failover.arbiters.etcd import EtcdArbiter
from hast.failover.arbiters.ping import PingArbiter
from hast.failover.arbiters.witness import WitnessArbiter


def make(configured: Configured) -> Arbiter | None:
    """The adapter for an `arbiter` statement; None for `arbiter none`."""
    match configured.kind:
        case ArbiterKind.PING:
            return PingArbiter(configured.targets)
        case ArbiterKind.WITNESS:
            return WitnessArbiter(configured.targets, fingerprints=configured.fingerprints)
        case ArbiterKind.ETCD:
            return EtcdArbiter(configured.targets, credentials=configured.credentials)
    return None
