"""hastctl verify between two real hastd: what differs is found, named, kept and repaired. No root."""

from __future__ import annotations

import json

from daemon_pair import DATA_OFFSET, Pair, io, needs_qemu_io, problems, told

from daemon import wait_for
from hast.daemon import paths
from hast.supervisor.verified import Verified, checked

pytestmark = needs_qemu_io

PLACE = 5 << 20


def test_a_block_that_went_bad_on_the_other_node_is_found_kept_over_a_restart_and_repaired(pair: Pair) -> None:
    io(pair.one, "write -P 0x5a 4M 4M", "flush")
    done = pair.one.hastctl("verify", "disk1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "both copies are equal" in done.stdout

    with (pair.two.directory / "disk1.img").open("r+b") as disk:
        disk.seek(DATA_OFFSET + PLACE)
        disk.write(b"rotten")
    done = pair.one.hastctl("verify", "disk1")
    assert done.returncode == 1
    assert f"4096 (4.0KB) different, at bytes {PLACE}+4096" in done.stdout
    assert f"first at byte {PLACE}" in problems(pair.one, "copies-differ")
    assert problems(pair.two, "copies-differ") == ""
    assert told(pair.one, "verified")[-1]["details"]["ranges"] == [[PLACE, 4096]]
    first, second = pair.images()
    assert first != second, "without --repair nothing is written"

    pair.one.kill()
    pair.one.start()
    wait_for(lambda: pair.one.status()["role"] == "primary", "the worker is adopted", 30.0)
    assert f"first at byte {PLACE}" in problems(pair.one, "copies-differ")
    assert "copies-differ" in pair.one.hastctl("status", "disk1").stdout

    done = pair.one.hastctl("verify", "--repair", "disk1")
    assert done.returncode == 0
    assert "written to the other node from this one" in done.stdout
    first, second = pair.images()
    assert first == second
    assert problems(pair.one, "copies-differ") == ""
    assert "last verify: " in pair.one.hastctl("list", "disk1").stdout


def test_it_is_refused_where_it_makes_no_sense_and_ends_when_ordered(pair: Pair) -> None:
    done = pair.two.hastctl("verify", "disk1")
    assert (done.returncode, "is not primary here" in done.stderr) == (2, True)
    done = pair.two.hastctl("verify", "--plan", "disk1")
    assert "would be refused: Resource disk1 is not primary here" in done.stderr
    assert "read every block of both copies" in pair.one.hastctl("verify", "--plan", "--repair", "disk1").stdout
    assert pair.one.hastctl("verify", "--stop", "disk1").returncode == 0, "nothing is under way"

    assert pair.one.hastctl("sync-rate", "1M", "disk1").returncode == 0
    assert pair.one.hastctl("verify", "--no-wait", "disk1").returncode == 0
    assert "  verifying: " in pair.one.hastctl("status", "disk1").stdout
    assert "under way" in pair.one.hastctl("verify", "disk1").stderr
    assert pair.one.hastctl("verify", "--stop", "disk1").returncode == 0
    wait_for(lambda: pair.one.status()["verify"] is None, "end of the verification")
    assert pair.one.status()["last_verify"]["outcome"] == "interrupted"
    assert problems(pair.one, "copies-differ") == ""
    assert pair.one.hastctl("sync-rate", "off", "disk1").returncode == 0
    assert pair.one.hastctl("verify", "disk1").returncode == 0

    pair.two.die()
    wait_for(lambda: pair.one.status()["status"] == "degraded", "loss of the secondary", 20.0)
    done = pair.one.hastctl("verify", "disk1")
    assert done.returncode == 2
    assert "the other node is not connected" in done.stderr


def test_what_a_worker_tells_of_it_is_not_trusted_and_a_spoilt_file_is_none() -> None:
    report = dict.fromkeys(("began", "ended", "total_bytes", "checked_bytes", "differing_bytes"), 1)
    report |= {"repaired_bytes": 0, "unreadable_bytes": 0, "outcome": "x" * 1000, "ranges": [[1, 2], "rubbish"]}
    found = checked(report)
    assert found is not None
    assert (len(found["outcome"]), found["ranges"]) == (200, [[1, 2]])
    assert checked(report | {"ended": None}) is None
    directory = paths.state_directory() / "verified"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "spoilt.json"
    for content in ("", "[]", json.dumps(report | {"began": "yesterday"})):
        path.write_text(content)
        assert Verified("spoilt").last is None
