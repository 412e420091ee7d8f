"""`python -m hast.lab.demo`: plays the story, as root on two lab hosts, else on loopback. Exit 0: all went as told."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hast.lab.demo import (
    act1_pair,
    act2_pool,
    act3_keys,
    act4_switch,
    act5_back,
    act6_daemons,
    act7_cable,
    act8_power,
    loopback_story,
    pools,
)
from hast.lab.demo.stage import Stage, StoryError
from hast.lab.laboratory import Lab
from hast.lab.loopback import LoopbackPair
from hast.lab.processes import LabError

ACTS = (act1_pair, act2_pool, act3_keys, act4_switch, act5_back, act6_daemons, act7_cable, act8_power)

DISK_SIZE_BYTES = 128 << 20


def main() -> int:
    """Play; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--loopback", action="store_true", help="the story for those without root")
    parser.add_argument("--acts", type=int, default=len(ACTS), help="play only so many acts")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    stage = Stage()
    play = play_on_loopback if options.loopback or os.geteuid() != 0 else play_in_lab
    return perform(stage, lambda: play(stage, options.acts))


def perform(stage: Stage, play: Callable[[], None]) -> int:
    """Play, then sum up; returns the exit code."""
    start_s = time.monotonic()
    try:
        play()
    except (StoryError, LabError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything is removed.", file=sys.stderr)
        return 130
    stage.end()
    print("\nSummary")
    for title, seconds in stage.times:
        print(f"  {title:<50} {seconds:6.1f} s")
    print(f"  {stage.steps} commands, all as told, in {time.monotonic() - start_s:.1f} s. Nothing is left behind.")
    return 0


def play_in_lab(stage: Stage, acts: int) -> None:
    """The story on hast1 and hast2. Raises StoryError, LabError."""
    pool = pools.best()
    with Lab(("hast1", "hast2", "client"), etc=act6_daemons.etc(pool), disk_size_bytes=DISK_SIZE_BYTES) as lab:
        print("Two hosts on this machine: hast1.freebsd.loc and hast2.freebsd.loc, each with its own network cards,")
        print("/etc, /dev, /run and three disks. What follows is typed on them; nothing of it is visible outside.")
        try:
            for act in ACTS[:acts]:
                stage.act(act.TITLE)
                act.play(stage, lab, pool)
        except (StoryError, LabError):
            show_logs(lab)
            raise


def show_logs(lab: Lab) -> None:
    """The last lines of both hosts' logs, after a failure."""
    for host in lab.hosts.values():
        print(f"\n{host.name}: last lines of /var/log/debug.log")
        print("".join(f"  {line}\n" for line in host.log().splitlines()[-20:]))


def play_on_loopback(stage: Stage, acts: int) -> None:
    """The story without root. Raises StoryError, LabError."""
    stage.prompt = "$"
    print("Not root: two hastd on 127.0.0.1, files as disks, NBD sockets instead of /dev/hast. The fail-over by itself")
    print("(virtual address, pulled cables, power cuts) needs hosts of their own, and so root: it is not played.")
    with tempfile.TemporaryDirectory(prefix="hast-demo-") as directory:
        with LoopbackPair(Path(directory), loopback_story.DISKS, loopback_story.SIZE_BYTES) as pair:
            for title, act in loopback_story.ACTS[:acts]:
                stage.act(title)
                act(stage, pair)


if __name__ == "__main__":
    sys.exit(main())
