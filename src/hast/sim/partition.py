"""Both nodes live and cannot see each other: what an arbiter prevents, and what is found out without one."""

from __future__ import annotations

from hast.format.constants import Role
from hast.replication.primary import Primary
from hast.replication.types import WRITE, Request
from hast.sim.disk import SECTOR_BYTES
from hast.sim.scenario import DATASIZE_BYTES, Run

APART_S = 3.0
UNANSWERED = -1


def _cut_off(run: Run) -> None:
    run.cluster.network_up = False
    run.cluster.cut("partition")
    run.world.run_until(run.world.now + 0.1)


def _write_directly(run: Run, name: str, stamp: bytes) -> Request:
    """One write by a client of this node, whoever else is primary; `error` stays UNANSWERED until it is answered."""
    node = run.cluster.nodes[name]
    offset = run.rng.randrange(DATASIZE_BYTES // SECTOR_BYTES) * SECTOR_BYTES
    request = Request(WRITE, offset, SECTOR_BYTES, stamp * (SECTOR_BYTES // len(stamp)))
    request.error = UNANSWERED
    assert isinstance(node.engine, Primary), "nobody to write to"
    node.engine.submit([request], run.world.now)
    node.pump()
    run.world.run_until(run.world.now + 1.0)
    return request


def both_serve(run: Run) -> list[str]:
    """No arbiter: b is promoted while a serves, both write, a steps back. Split brain has to be found on every attempt
    to reconnect, and neither copy may change by it."""
    wrong = list[str]()
    run.wait_in_step()
    _cut_off(run)
    for name in ("a", "b"):
        if run.cluster.roles[name] is not Role.PRIMARY:
            run.cluster.promote(name)
        if _write_directly(run, name, name.encode() * 8).error:
            wrong.append(f"{name} does not serve alone")
    run.cluster.demote("a")
    before = {name: node.disk.data_area() for name, node in run.cluster.nodes.items()}
    run.cluster.network_up = True
    run.world.run_until(run.world.now + 15.0)
    if run.cluster.split_brains < 5:
        wrong.append(f"S8: split brain was found {run.cluster.split_brains} times in 15 seconds")
    if run.protected():
        wrong.append("S8: two copies that were written apart were merged")
    for name, node in run.cluster.nodes.items():
        if node.disk.data_area() != before[name]:
            wrong.append(f"S8: the copy of {name} was changed")
    return wrong


def arbiter_chooses(run: Run) -> list[str]:
    """The arbiter refuses a and lets b go on: a acknowledges nothing, b serves, and the copies become one again."""
    run.wait_in_step()
    run.cluster.nodes["a"].arbiter = lambda node: False
    _cut_off(run)
    held = _write_directly(run, "a", b"never!!!")
    wrong = [] if held.error == UNANSWERED else ["S11: a write was answered although the arbiter refused"]
    engine = run.cluster.engine()
    assert engine is not None, "a does not serve"
    engine.drain(run.world.now)
    run.cluster.nodes["a"].pump()
    run.world.run_until(run.world.now + 1.0)
    if not engine.drained:
        wrong.append("S10: a node that the arbiter refused can not be demoted")
    if held.error == 0:
        wrong.append("S11: a write was acknowledged against the arbiter's word, at the demotion")
    run.cluster.demote("a")
    run.cluster.promote("b")
    run.clients.working = True
    run.wait(APART_S)
    return wrong + run.verdict()


def arbiter_refuses_for_a_while(run: Run) -> list[str]:
    """The arbiter refuses a; nobody else is promoted; the link comes back: what was held is answered."""
    run.wait_in_step()
    run.cluster.nodes["a"].arbiter = lambda node: False
    errors = run.clients.errors
    run.clients.working = True
    run.wait(1.0)
    _cut_off(run)
    run.wait(APART_S)
    run.cluster.network_up = True
    if not run.wait_in_step():
        return ["writes stay held although the peer is back"]
    wrong = [] if run.clients.errors == errors else ["operations failed"]
    return wrong + run.verdict()
