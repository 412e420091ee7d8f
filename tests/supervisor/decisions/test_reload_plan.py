"""What a changed configuration means for running resources."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hast.config.model import Configuration, Resource
from hast.format.constants import Compression, Replication, Role
from hast.supervisor.decisions.reload_plan import changes, keep_present, needs_restart, plan

OLD = Resource("disk1", "disk1", "/dev/a", ("peer",))
BASE = Configuration("/etc/hast.conf", resources={"disk1": OLD})


@pytest.mark.parametrize(
    ("change", "primary", "secondary"),
    [
        ({"provider_name": "x"}, True, True),
        ({"local": "/dev/b"}, True, True),
        ({"remotes": ()}, False, True),
        ({"source": "10.0.0.1"}, False, True),
        ({"replication": Replication.ASYNC}, False, True),
        ({"compression": Compression.LZF}, False, True),
        ({"timeout_s": 5}, False, True),
        ({"exec_path": "/x"}, False, True),
        ({"metaflush": False}, False, True),
        ({"sync_rate_bytes_s": 5}, False, False),
        ({"read_balancing": True}, False, False),
        ({"wait_for_peer_s": 5}, False, False),
        ({"disk_timeout_s": 5}, False, False),
    ],
)
def test_which_changes_take_a_resource_through_init(change: dict[str, Any], primary: bool, secondary: bool) -> None:
    new = replace(OLD, **change)
    assert needs_restart(OLD, new, Role.PRIMARY) is primary
    assert needs_restart(OLD, new, Role.SECONDARY) is secondary
    assert needs_restart(OLD, new, Role.INIT) is secondary


def test_what_changed_is_said_with_both_values() -> None:
    new = replace(OLD, timeout_s=7, remotes=(), exec_path="/x")
    assert changes(OLD, new) == f"exec_path none -> /x, remotes peer -> none, timeout {OLD.timeout_s} -> 7"
    assert changes(OLD, OLD) == ""


def test_plan_names_what_changed() -> None:
    other = Resource("disk2", "disk2", "/dev/c", ())
    new = Configuration(
        "/etc/hast.conf",
        control="/c",
        listen=("a", BASE.listen[0]),
        resources={"disk1": replace(OLD, timeout_s=5), "disk2": other},
    )
    found = plan(BASE, new, {"disk1": Role.PRIMARY})
    assert (found.removed, found.added, found.restarted, found.live) == ((), ("disk2",), (), ("disk1",))
    assert (found.listen_added, found.listen_removed) == (("a",), (BASE.listen[1],))
    assert (found.control_changed, found.pidfile_changed) == (True, False)
    assert plan(new, BASE, {}).removed == ("disk2",)


def test_what_could_not_be_moved_stays() -> None:
    new = Configuration("/etc/hast.conf", control="/c", pidfile="/p")
    assert keep_present(new, BASE, control=True, pidfile=False).control == BASE.control
    assert keep_present(new, BASE, control=True, pidfile=False).pidfile == "/p"
