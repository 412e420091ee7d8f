"""--plan of hastctl: says what would be done and what refused, and nothing changes. Two real hastd. No root."""

from __future__ import annotations

import os
from typing import Any

import pytest
from daemon_fixtures import MakeDaemon
from daemon_pair import Pair, needs_qemu_io

from daemon import Daemon
from hast.cli.client import ControlError
from hast.cli.hastctl import run

pytestmark = needs_qemu_io


def whole_state(pair: Pair) -> list[Any]:
    """What a plan has to leave as it is: roles, workers, events, the disks byte for byte, files."""
    found: list[Any] = []
    for daemon in pair.both:
        status = daemon.status()
        found += [status["role"], status["workerpid"], status["status"], status["history"], status["problems"]]
        found += [(daemon.directory / "disk1.img").read_bytes(), daemon.hooks()]
        found += [sorted(path.name for path in daemon.directory.iterdir()), sorted(os.listdir(daemon.run_directory))]
    return found


def asked(daemon: Daemon, command: str, **more: Any) -> tuple[str, str]:
    """Steps and refusal, without the price of a process."""
    order = {"command": command, "resources": ["disk1"], **more}
    (entry,) = daemon.ask({"command": "plan", "order": order})["resources"]
    return "\n".join(entry["steps"]), entry["error"] or ""


def plan(daemon: Daemon, *arguments: str) -> tuple[int, str, str]:
    done = daemon.hastctl(arguments[0], *arguments[1:], "--plan")
    return done.returncode, done.stdout, done.stderr


def test_nothing_changes_by_any_plan_and_each_says_what_would_be_done(pair: Pair) -> None:
    one, two = pair.both
    new_disk = one.directory / "new.img"
    for daemon in pair.both:
        with (daemon.directory / "new.img").open("wb") as file:
            file.truncate(16 << 20)
    small = one.directory / "small.img"
    small.write_bytes(bytes(4096))
    before = whole_state(pair)

    code, out, _err = plan(one, "role", "secondary", "disk1")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "disk1:"
    assert lines[1].startswith("  1. tell the peer that this node lets go")
    assert lines[-1].endswith("be secondary from now on, for peers and for status")
    steps, refusal = asked(two, "role", role="primary")
    assert ("it is primary" in steps, "refused if it is still primary then" in steps, refusal) == (True, True, "")
    assert asked(one, "role", role="primary") == ("nothing: it is primary already", "")

    assert "make the other node's copy the one to trust" in asked(one, "detach")[0]
    assert "the primary goes on alone" in asked(two, "detach")[0]
    code, _out, err = plan(one, "attach", "disk1")
    assert (code, err) == (2, "[disk1] would be refused: Not done: the local disk is in use.\n")
    assert f"copy everything from the other node to {new_disk}" in asked(one, "replace", path=str(new_disk))[0]
    assert "is too small" in asked(one, "replace", path=str(small))[1]
    assert "receive everything" in asked(two, "replace", path=str(two.directory / "new.img"))[0]

    assert "is primary on this node" in asked(one, "resolve", order="discard")[1]
    assert "there is no split brain to resolve" in asked(two, "resolve", order="discard")[1]

    assert plan(one, "create", "disk1")[0] == 66
    assert whole_state(pair) == before


def test_create_and_wipe_say_what_they_would_overwrite(
    make_daemon: MakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = make_daemon()
    monkeypatch.setenv("HAST_RUN", str(daemon.run_directory))
    disk, conf = daemon.directory / "disk1.img", str(daemon.config)
    assert run(["create", "-c", conf, "--plan", "disk1"]) == 0
    assert "there now: none that can be read" in capsys.readouterr().out
    assert disk.read_bytes() == bytes(16 << 20)
    assert run(["create", "-c", conf, "disk1"]) == 0
    before = disk.read_bytes()
    assert run(["create", "-c", conf, "--plan", "disk1"]) == 0
    assert "that of resource disk1" in capsys.readouterr().out
    assert run(["wipe", "-c", conf, "--plan", "disk1"]) == 0
    assert "with zeros" in capsys.readouterr().out
    assert disk.read_bytes() == before


def test_an_order_that_makes_no_sense_has_no_plan(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    for order, error in (
        (None, "The request holds no order."),
        (
            {"command": "reload", "resources": ["all"]},
            "Only role, resolve, verify, detach, attach and replace have a plan.",
        ),
        ({"command": "role", "resources": ["all"], "role": "king"}, "Unknown role 'king'."),
        ({"command": "role"}, "The request names no resources."),
    ):
        with pytest.raises(ControlError) as raised:
            daemon.ask({"command": "plan", "order": order})
        assert error in str(raised.value)


def test_a_promotion_of_a_disk_without_metadata_is_refused_in_the_plan(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(fake=False).start()
    code, out, err = plan(daemon, "role", "primary", "disk1")
    assert (code, out) == (69, "disk1:\n")
    assert "would be refused" in err
    assert daemon.status()["role"] == "init"
