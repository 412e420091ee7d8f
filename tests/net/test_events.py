"""net/events.py: which events a change of state makes."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from hast.config.carp_model import VirtualHost
from hast.election.carp_types import State
from hast.net.events import events_of

CONFIG = VirtualHost("carp0", 1, "re0", (ip_interface("10.10.10.180/24"),))
INIT, BACKUP, MASTER = State.INIT, State.BACKUP, State.MASTER


@pytest.mark.parametrize(
    ("previous", "state", "link"),
    [
        (None, BACKUP, "LINK_DOWN"),
        (None, INIT, "LINK_DOWN"),
        (BACKUP, MASTER, "LINK_UP"),
        (MASTER, BACKUP, "LINK_DOWN"),
        (MASTER, INIT, "LINK_DOWN"),
        (BACKUP, INIT, None),
        (INIT, BACKUP, None),
        (None, MASTER, "LINK_UP"),
    ],
)
def test_a_change_makes_an_event_in_the_newer_form_and_one_in_the_older_when_the_link_changed(
    previous: State | None, state: State, link: str | None
) -> None:
    events = events_of(CONFIG, state, previous, "why", 5.0)
    assert (events[0]["system"], events[0]["subsystem"], events[0]["type"]) == ("CARP", "1@re0", str(state))
    older = [(event["system"], event["subsystem"], event["type"]) for event in events[1:]]
    assert older == ([("IFNET", "carp0", link)] if link else [])
    assert all(event["reason"] == "why" and event["time"] == 5.0 for event in events)


@pytest.mark.parametrize(("state", "link"), [(INIT, "LINK_DOWN"), (BACKUP, "LINK_DOWN"), (MASTER, "LINK_UP")])
def test_the_present_state_is_told_in_both_forms(state: State, link: str) -> None:
    newer, older = events_of(CONFIG, state, None, "present state", 5.0, current=True)
    assert (newer["type"], older["type"]) == (str(state), link)
    assert newer["current"]
    assert older["current"]
