"""Arbiters on a third host of the lab: a witness, or etcd."""

from __future__ import annotations

from hast.lab.host import Host
from hast.lab.laboratory import ADDRESSES
from hast.lab.network import PUB

ADDRESS = PUB.address(ADDRESSES["witness"]["pub"])
ETCD_TIMEOUT_S = 20.0


def start(host: Host, kind: str) -> None:
    """Start a `witness` or `etcd`; what it knew before a power cut is there again. Raises LabError."""
    if kind == "witness":
        host.run(["hast-witness", "-f", "/var/lib/hast/witness.json"], check=True)
        return
    host.spawn(
        "etcd --data-dir /var/tmp/etcd --listen-client-urls http://0.0.0.0:2379 --heartbeat-interval 50"
        f" --election-timeout 250 --advertise-client-urls http://{ADDRESS}:2379"
    )
    host.wait_for("etcd", lambda: ":2379" in host.run("ss -Hltn").stdout, ETCD_TIMEOUT_S)
