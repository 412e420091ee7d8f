"""The `fence` program of hast.conf under Pacemaker: may this primary go on without its peer?

It notes in the cluster that the peer's copy is outdated, so that its agent never offers it for promotion, and says yes.
A peer of which the cluster does not know what it does (unclean: to be fenced) is waited for: hastd holds writes
meanwhile.
"""

from __future__ import annotations

import sys
import time

from hast.failover.pacemaker import cluster
from hast.failover.pacemaker.cluster import ClusterError

WAIT_S = 50.0
"""hastd kills a fence program after 60 s, and asks again after a no."""
POLL_S = 0.5
EX_USAGE = 64


def main(argv: list[str] | None = None) -> int:
    """Arguments: resource and this node, by hastd. 0: the peer is out of the way; 1: it is not known to be."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 2:
        print("usage: fence-peer RESOURCE NODE (run by hastd)", file=sys.stderr)
        return EX_USAGE
    until_s = time.monotonic() + WAIT_S
    reason = ""
    while True:
        try:
            reason = _try(arguments[0])
        except ClusterError as error:
            reason = str(error)
        if not reason:
            return 0
        if time.monotonic() >= until_s:
            print(reason)
            return 1
        time.sleep(POLL_S)


def _try(resource: str) -> str:
    """Empty when it is done, else why not."""
    own = cluster.own_name()
    others = [node for node in cluster.nodes() if node.name != own]
    if not others:
        return "the cluster knows no other node"
    unclean = [node.name for node in others if node.unclean]
    if unclean:
        return f"{' '.join(unclean)} is not fenced yet"
    for node in others:
        cluster.note_outdated(node.name, resource)
    # Looked at again: the other side of a partition may have become one meanwhile.
    if any(node.unclean for node in cluster.nodes()):
        return "the cluster lost a node meanwhile"
    print(f"noted that {' '.join(node.name for node in others)} lacks writes of {resource}")
    return ""
