"""carpctl(8): asks a running carpd; prints text for people or JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config import carpconf
from hast.config.carp_model import DEFAULT_CARP_CONF
from hast.config.host import this_host
from hast.config.model import ConfigError
from hast.daemon.paths import carpd_socket
from hast.net.carpd import control_path

EX_UNAVAILABLE = 69
EX_REFUSED = 1
REPLY_DEADLINE_S = 10.0


class _Failure(Exception):
    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("carpctl", "Look at and order a running carpd.")
    parser.add_argument("-c", dest="config", default=DEFAULT_CARP_CONF, help="configuration that names the socket")
    parser.add_argument("-s", dest="socket", help="control socket of carpd, instead of the configured one")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="state of every vhid")
    status.add_argument("vhid", nargs="?", type=_vhid, metavar="VHID[@INTERFACE]")
    state = commands.add_parser("state", help="make a vhid master or backup by hand, or end that")
    state.add_argument("vhid", type=_vhid, metavar="VHID[@INTERFACE]")
    state.add_argument("state", choices=["master", "backup", "auto"])
    state.add_argument("--plan", action="store_true", help="say what would happen, and do nothing")
    demote = commands.add_parser("demote", help="add to advskew of every vhid of this host")
    demote.add_argument("amount", type=int, nargs="?", default=240)
    undemote = commands.add_parser("undemote", help="end what demote began")
    events = commands.add_parser("events", help="print events as they come, until interrupted")
    events.add_argument("--current", action="store_true", help="begin with the present state")
    for each in (status, state, demote, undemote, events):
        each.add_argument("--json", action="store_true", help="JSON instead of text")
    return parser


def _vhid(text: str) -> tuple[int, str | None]:
    number, _at, interface = text.partition("@")
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 255:
        raise argparse.ArgumentTypeError(f"{text!r} is not VHID or VHID@INTERFACE with a vhid from 1 to 255")
    return int(number), interface or None


def main(argv: list[str] | None = None) -> None:
    """Entry point. Exits 0; 1 when carpd refuses; 64 usage; 69 carpd does not answer; 78 configuration."""
    completion.answer("carpctl", _parser)
    arguments = _parser().parse_args(argv)
    try:
        sys.exit(_run(arguments))
    except (_Failure, ConfigError) as error:
        print(f"carpctl: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _run(arguments: argparse.Namespace) -> int:
    path = _socket_path(arguments)
    match arguments.command:
        case "status":
            return _status(path, arguments)
        case "events":
            return _events(path, arguments)
        case "state":
            number, interface = arguments.vhid
            word = "plan-state" if arguments.plan else "state"
            request = {"command": word, "vhid": number, "interface": interface, "state": arguments.state}
        case "demote":
            request = {"command": "demote", "amount": arguments.amount}
        case _:
            request = {"command": "undemote"}
    reply = _ask(path, request)
    if arguments.json:
        print(json.dumps(reply))
    elif "steps" in reply:
        print("\n".join(f"{number}. {step}" for number, step in enumerate(reply["steps"], 1)))
    elif "demotion" in reply:
        print(f"demotion: {reply['demotion']}")
    return 0


def _socket_path(arguments: argparse.Namespace) -> str:
    if arguments.socket:
        return str(arguments.socket)
    try:
        return control_path(carpconf.load(arguments.config, this_host()))
    except ConfigError:
        if arguments.config != DEFAULT_CARP_CONF:
            raise
        return str(carpd_socket())


def _connect(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(REPLY_DEADLINE_S)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise _Failure(
            f"carpd does not answer on {path}: {error.strerror or error}. Is it running?", EX_UNAVAILABLE
        ) from None
    return sock


def _lines(sock: socket.socket, path: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Send a request; the reply, then whatever follows. Raises _Failure."""
    try:
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as stream:
            first = json.loads(stream.readline() or b"{}")
            if first.get("error", "closed the connection") is not None:
                text = str(first.get("error", f"carpd closed the connection on {path}"))
                raise _Failure(text, EX_REFUSED if "error" in first else EX_UNAVAILABLE)
            yield first
            sock.settimeout(None)
            for line in stream:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _Failure(f"no good answer from carpd on {path}: {reason}.", EX_UNAVAILABLE) from None


def _ask(path: str, request: dict[str, Any]) -> dict[str, Any]:
    with _connect(path) as sock:
        return next(_lines(sock, path, request))


def _events(path: str, arguments: argparse.Namespace) -> int:
    with _connect(path) as sock:
        lines = _lines(sock, path, {"command": "events", "current": arguments.current})
        next(lines)
        for event in lines:
            if arguments.json:
                print(json.dumps(event), flush=True)
            else:
                at = time.strftime("%H:%M:%S", time.localtime(event["time"]))
                print(f"{at} {event['system']} {event['subsystem']} {event['type']} ({event['reason']})", flush=True)
    raise _Failure("carpd closed the stream of events.", EX_UNAVAILABLE)


def _status(path: str, arguments: argparse.Namespace) -> int:
    reply = _ask(path, {"command": "status"})
    if arguments.vhid is not None:
        number, interface = arguments.vhid
        reply["vhids"] = [
            each for each in reply["vhids"] if each["vhid"] == number and interface in (None, each["interface"])
        ]
        if not reply["vhids"]:
            on = f" on {interface}" if interface else ""
            raise _Failure(f"vhid {number}{on} is not configured on this host.", EX_REFUSED)
    if arguments.json:
        print(json.dumps(reply))
        return 0
    for each in reply["vhids"]:
        print("\n".join(_describe(each)))
    print(f"demotion: {reply['demotion']}" + "".join(f" {why}={n}" for why, n in sorted(reply["demotions"].items())))
    if reply["hastd"]:
        print(f"hastd: does not answer: {reply['hastd']}")
    for interface, counts in sorted(reply["dropped"].items()):
        print(f"ignored on {interface}: " + ", ".join(f"{kind} {n}" for kind, n in sorted(counts.items())))
    return 0


def _describe(each: dict[str, Any]) -> Iterator[str]:
    counts = each["counts"]
    yield f"{each['name']}:"
    yield (
        f"  carp: {each['state']} vhid {each['vhid']} advbase {each['advbase']} advskew {each['advskew']}"
        f" on {each['interface']} for {max(0, int(time.time() - each['since']))} s"
    )
    if each["link"] != "up":
        yield f"  interface: {each['link']}"
    yield f"  addresses: {' '.join(each['addresses'])}"
    if each["effective_advskew"] != each["advskew"]:
        yield f"  advertised advskew: {each['effective_advskew']}"
    if each["by_hand"]:
        yield f"  by hand: {each['by_hand']}"
    if each["resources"]:
        adds = f"; adds {each['data_demotion']}" if each["data_demotion"] else ""
        yield f"  data: {each['data'] or 'not known yet'}{adds}"
    if each["master"]:
        yield f"  master: {each['master']['source']} heard {each['master']['ago_s']:.1f} s ago"
    if each["undecided"]:
        yield f"  roles stay as they are: {each['undecided']}"
    if each["waiting_for"]:
        yield f"  not master, because {each['waiting_for']}"
    bad = {"wrong HMAC": counts["bad_auth"], "replayed": counts["replayed"], "not sent": counts["send_errors"]}
    if any(bad.values()):
        yield "  " + ", ".join(f"{name}: {n}" for name, n in bad.items() if n)


if __name__ == "__main__":
    main()
