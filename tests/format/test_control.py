"""Control messages: the vectors both ways, errors, and what a hostile request can say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from handmade import Vector, joined

from hast.format import control, frame, nv
from hast.format.constants import ControlCommand, HastError, Role
from hast.format.control import ControlError
from hast.format.frame import FrameDecoder
from hast.format.nv import Field, Nv, NvType

INIT: dict[str, Any] = {
    "name": "shared",
    "error": None,
    "provname": "shared",
    "localpath": "/dev/da0",
    "remoteaddr": "tcp4://10.0.0.2",
    "sourceaddr": None,
    "replication": "memsync",
    "checksum": "none",
    "compression": "hole",
    "role": "init",
    "workerpid": 0,
    "status": "-",
    "dirty": 0,
    "extentsize": 0,
    "keepdirty": 0,
    "statistics": {
        "reads": 0,
        "writes": 0,
        "deletes": 0,
        "flushes": 0,
        "activemap_updates": 0,
        "read_errors": 0,
        "write_errors": 0,
        "delete_errors": 0,
        "flush_errors": 0,
    },
    "queues": {"idle": 0, "local": 0, "send": 0, "recv": 0, "done": 0},
}
PRIMARY = {
    **INIT,
    "role": "primary",
    "workerpid": 1234,
    "status": "complete",
    "dirty": 4194304,
    "extentsize": 2097152,
    "keepdirty": 64,
    "statistics": {**INIT["statistics"], "reads": 10, "writes": 20, "deletes": 1, "flushes": 3, "activemap_updates": 7},
    "queues": {"idle": 254, "local": 0, "send": 1, "recv": 1, "done": 0},
}
UNKNOWN = {"name": "nosuch", "error": "Received error 1 from hastd.", "code": 1}


def read(wire: bytes) -> Nv:
    decoder = FrameDecoder(1 << 24, 0)
    decoder.feed(wire)
    message = decoder.next()
    assert message is not None
    return message.nv


def again(fields: list[Field]) -> Nv:
    return nv.decode(nv.encode(fields))


def wire(fields: list[Field]) -> bytes:
    return joined(frame.encode(2, fields))


def test_status_request(vector: Vector) -> None:
    fields = read(vector("30"))
    assert fields.get("cmd", NvType.UINT8) == ControlCommand.STATUS
    assert control.resource_names(fields) == ["all"]
    assert wire(control.status_request(["all"])) == vector("30")


def test_role_request(vector: Vector) -> None:
    fields = read(vector("31"))
    assert fields.get("cmd", NvType.UINT8) == ControlCommand.SETROLE
    assert control.requested_role(fields) is Role.PRIMARY
    assert control.resource_names(fields) == ["shared"]
    assert wire(control.role_request(Role.PRIMARY, ["shared"])) == vector("31")


def test_role_reply_names_the_previous_role(vector: Vector) -> None:
    entry = {"name": "shared", "error": None, "previous": "init"}
    assert control.read_role_reply(read(vector("32"))) == [entry]
    assert wire(control.role_reply([entry])) == vector("32")


def test_reply_about_an_unknown_resource(vector: Vector) -> None:
    assert control.read_role_reply(read(vector("33"))) == [UNKNOWN]
    assert control.read_status_reply(read(vector("33"))) == [UNKNOWN]
    assert wire(control.role_reply([UNKNOWN])) == vector("33")
    assert wire(control.status_reply([UNKNOWN])) == vector("33")


@pytest.mark.parametrize(("number", "status"), [("34", INIT), ("35", PRIMARY)])
def test_status_reply(vector: Vector, number: str, status: dict[str, Any]) -> None:
    assert control.read_status_reply(read(vector(number))) == [status]
    assert wire(control.status_reply([status])) == vector(number)


def test_whole_request_refused(vector: Vector) -> None:
    for reader in (control.read_status_reply, control.read_role_reply):
        with pytest.raises(ControlError, match=r"^Error 2 received from hastd\.$") as caught:
            reader(read(vector("36")))
        assert caught.value.code == HastError.INVALID
    assert wire(control.error_reply(HastError.INVALID)) == vector("36")


def test_source_address_is_sent_when_there_is_one() -> None:
    status = {**PRIMARY, "sourceaddr": "10.0.0.1"}
    fields = again(control.status_reply([status]))
    assert fields.get("sourceaddr0", NvType.STRING) == "10.0.0.1"
    assert control.read_status_reply(fields) == [status]


def test_several_resources_keep_their_order() -> None:
    entries = [PRIMARY, UNKNOWN, {**INIT, "name": "third"}]
    assert control.read_status_reply(again(control.status_reply(entries))) == entries


@pytest.mark.parametrize("reply", [control.status_reply, control.role_reply])
def test_a_reply_about_no_resource_is_never_empty(reply: Any) -> None:
    fields = again(reply([]))
    assert fields.get("error", NvType.INT16) == 0
    assert control.read_status_reply(fields) == []


def test_an_error_without_a_code_is_invalid() -> None:
    assert control.role_reply([{"name": "r", "error": "text"}])[1] == nv.i16("error0", HastError.INVALID)


def test_json_messages_carry_text() -> None:
    assert again(control.json_request("{}")).get("cmd", NvType.UINT8) == ControlCommand.JSON
    assert again(control.json_request("{}")).get("json", NvType.STRING) == "{}"
    assert again(control.json_reply("[1]")).get("json", NvType.STRING) == "[1]"


@pytest.mark.parametrize("field", [nv.u8("role", 0), nv.u8("role", 4), nv.i16("role", 2), nv.u8("other", 1)])
def test_what_is_no_role_is_none(field: Field) -> None:
    assert control.requested_role(again([field])) is None


def test_names_end_at_the_first_gap() -> None:
    names = [nv.string("resource0", "a"), nv.string("resource2", "c"), nv.u8("resource1", 1)]
    assert control.resource_names(again(names)) == ["a"]


def test_more_names_than_the_limit_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "MAX_RESOURCES", 2)
    assert control.resource_names(again(control.status_request(["a", "b", "c"]))) == ["a", "b"]


@given(st.binary(max_size=100))
def test_garbage_raises_nothing_but_control_error(body: bytes) -> None:
    try:
        fields = nv.decode(body)
    except nv.NvError:
        return
    control.resource_names(fields)
    control.requested_role(fields)
    for reader in (control.read_status_reply, control.read_role_reply):
        try:
            reader(fields)
        except ControlError:
            pass
