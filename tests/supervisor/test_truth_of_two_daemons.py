"""What two real hastd say of themselves while copies are made, missed and lost. No root."""

from __future__ import annotations

import os
import signal
import time

from daemon_pair import Pair, io, needs_qemu_io, told

from daemon import wait_for
from hast.format.constants import SPLIT_BRAIN_TEXT

pytestmark = needs_qemu_io
SLOW_BYTES_S = 128 << 10


def leave(pair: Pair) -> None:
    """The secondary goes; what is written then it lacks."""
    pair.two.role("init")
    wait_for(lambda: pair.one.status()["status"] == "degraded", "the loss")
    io(pair.one, "write -P 7 0 12M")


def copy_slowly(pair: Pair) -> None:
    """The secondary comes back, and the copying of what it lacks takes a while."""
    pair.one.ask({"command": "sync-rate", "resources": ["disk1"], "bytes_s": SLOW_BYTES_S})
    pair.two.role("secondary")
    wait_for(lambda: pair.words() == ["synchronizing"] * 2, "a synchronisation under way", 40)


def copy_fast(pair: Pair) -> None:
    pair.one.ask({"command": "sync-rate", "resources": ["disk1"], "bytes_s": 0})
    pair.wait_complete()


def test_complete_is_not_said_on_either_node_while_a_copy_is_made(pair: Pair) -> None:
    leave(pair)
    copy_slowly(pair)
    assert pair.words() == ["synchronizing", "synchronizing"]
    for daemon in pair.both:
        assert "complete" not in daemon.hastctl("status").stdout
        assert "complete" not in daemon.hastctl("status", "--table").stdout
        assert "synchronizing" in daemon.hastctl("status", "--table").stdout
    copy_fast(pair)
    for daemon in pair.both:
        assert "  status: complete\n  dirty: 0 (0B)\n" in daemon.hastctl("status").stdout


def test_the_end_of_a_synchronisation_is_told_on_both_nodes(pair: Pair) -> None:
    leave(pair)
    copy_slowly(pair)
    assert [event["event"] for event in told(pair.two, "syncstart", "syncdone")] == ["syncstart"]
    copy_fast(pair)
    for daemon in pair.both:
        assert [event["event"] for event in told(daemon, "syncstart", "syncdone")] == ["syncstart", "syncdone"]
        wait_for(lambda daemon=daemon: "syncdone disk1" in daemon.hooks(), "the hook")  # type: ignore[misc]
    assert told(pair.two, "syncdone")[0]["time"] >= told(pair.one, "syncstart")[0]["time"]


def test_an_interrupted_synchronisation_is_told_on_the_secondary_too(pair: Pair) -> None:
    leave(pair)
    copy_slowly(pair)
    pair.one.die()
    wait_for(lambda: told(pair.two, "syncintr"), "the end")
    wait_for(lambda: told(pair.two, "syncintr", "disconnect")[-1]["event"] == "disconnect", "the loss")
    assert [event["event"] for event in told(pair.two, "syncintr", "disconnect")[-2:]] == ["syncintr", "disconnect"]


def test_a_node_that_takes_what_it_lacks_from_its_peer_tells_so_on_both(pair: Pair) -> None:
    """The primary of before comes back as primary with the older copy, over a secondary that is ahead."""
    pair.one.role("init")
    assert pair.two.role("primary")["error"] is None
    io(pair.two, "write -P 9 0 12M")
    pair.two.role("secondary")
    assert pair.one.role("primary")["error"] is None
    pair.wait_complete()
    for daemon in pair.both:
        assert [event["event"] for event in told(daemon, "syncstart", "syncdone")] == ["syncstart", "syncdone"]


def test_degraded_says_since_when_and_why(pair: Pair) -> None:
    assert pair.two.process is not None
    worker = pair.two.status()["workerpid"]
    for pid in (pair.two.process.pid, worker):
        os.kill(pid, signal.SIGKILL)
    pair.two.process.wait(5)
    lost = wait_for(lambda: told(pair.one, "disconnect"), "the loss")[0]
    apart = wait_for(
        lambda: (found := pair.one.status()["not_connected"]) and "refused" in found["reason"] and found, "the reason"
    )
    assert apart == {"since": lost["time"], "reason": f"tcp4://127.0.0.1:{pair.two.port}: Connection refused"}
    text = pair.one.hastctl("status").stdout
    assert "  status: degraded\n" in text
    assert "  peer: not connected since 2" in text
    assert text.endswith(f"tcp4://127.0.0.1:{pair.two.port}: Connection refused\n")


def test_a_peer_that_stopped_is_not_called_refusing(pair: Pair) -> None:
    pair.two.stop()
    assert wait_for(lambda: told(pair.one, "peer-stops"), "the word of it")
    lost = wait_for(lambda: told(pair.one, "disconnect"), "the loss")[0]
    time.sleep(1.5)
    assert pair.one.status()["not_connected"] == {"since": lost["time"], "reason": "the peer stopped in order"}
    assert "refused" not in pair.one.log()


def test_a_secondary_that_lost_its_primary_says_since_when_and_why(pair: Pair) -> None:
    pair.one.role("init")
    lost = wait_for(lambda: told(pair.two, "disconnect"), "the loss")[0]
    apart = pair.two.status()["not_connected"]
    assert apart == {"since": lost["time"], "reason": "the primary let go in order"}
    assert "  peer: not connected since 2" in pair.two.hastctl("status").stdout
    pair.two.role("init")
    assert pair.two.status()["not_connected"] is None


def test_keepdirty_of_a_connected_secondary_is_that_of_its_disk(pair: Pair) -> None:
    assert pair.two.status()["keepdirty"] == 64


def split(pair: Pair) -> None:
    """Both write while apart, then meet again."""
    leave(pair)
    pair.one.role("init")
    assert pair.two.role("primary", force=True)["error"] is None
    io(pair.two, "write -P 8 0 2M")
    pair.two.role("secondary")
    pair.one.role("primary", force=True)
    for daemon in pair.both:
        wait_for(lambda daemon=daemon: daemon.status()["split_brain"], "the split brain", 20)  # type: ignore[misc]


def test_a_split_brain_is_seen_in_the_table_and_said_once(pair: Pair) -> None:
    split(pair)
    for daemon in pair.both:
        done = daemon.hastctl("status", "--table")
        assert done.returncode == 0
        assert done.stdout.splitlines()[1].split()[1] == "split-brain"
        assert [problem["kind"] for problem in daemon.status()["problems"]] == ["split-brain"]
        assert "last-error" not in daemon.hastctl("status").stdout


def test_each_end_of_a_refused_connection_says_it_once_and_from_its_own_side(pair: Pair) -> None:
    pair.two.role("init")
    wait_for(lambda: "acts as init" in pair.one.log(), "the refusal")
    time.sleep(2.5)
    refusals = [line for line in pair.one.log().splitlines() if "acts as init" in line and "DEBUG" not in line]
    assert len(refusals) == 1
    assert "The peer refused: Remote node acts as init for the resource" in refusals[0]
    wait_for(lambda: "refused: This node acts as init for the resource" in pair.two.log(), "its own log")
    assert "Remote node" not in pair.two.log()


def test_a_split_brain_is_no_failure_to_connect_and_one_line_for_each_attempt(pair: Pair) -> None:
    split(pair)
    for daemon in pair.both:
        attempts = daemon.status()["split_brain"]["attempts"]
        lines = daemon.log().splitlines()
        assert not [line for line in lines if "onnect" in line and "plit-brain" in line]
        detected = [line for line in lines if "Split-brain detected" in line]
        assert len(detected) in (attempts, attempts + 1), "one more may have come between the two looks"
        assert "Split-brain detected, exiting" not in daemon.log()
        assert SPLIT_BRAIN_TEXT not in daemon.log()


def test_a_refused_promotion_is_said_once_and_without_a_stammer(pair: Pair) -> None:
    leave(pair)
    pair.one.role("init")
    assert pair.two.role("primary", force=True)["error"] is None
    io(pair.two, "write -P 8 0 2M")
    pair.two.role("secondary")
    refused = pair.one.hastctl("role", "primary", "disk1")
    assert refused.returncode == 69
    assert refused.stderr.startswith("[disk1] Split-brain: both nodes hold writes that the other lacks.")
    lines = [line for line in pair.one.log().splitlines() if "Run hastctl resolve" in line]
    assert len(lines) == 1
    assert "[disk1] (init) Not primary: Split-brain: both nodes" in lines[0]


def test_a_promotion_beside_a_living_primary_is_refused_without_a_stammer(pair: Pair) -> None:
    refused = pair.two.hastctl("role", "primary", "--timeout", "20", "disk1")
    assert refused.returncode == 69
    assert refused.stderr.startswith("[disk1] Unable to become primary: the peer is primary. ")
    assert "primary: Unable" not in pair.two.log() + pair.two.hastctl("status").stdout
    assert pair.two.status()["role"] == "secondary"
    pair.wait_complete()
