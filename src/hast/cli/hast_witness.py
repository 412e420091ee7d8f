"""hast-witness(8): command line of the witness; the server is failover/arbiters/witness_server.py."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path

from hast.cli import completion
from hast.cli.arguments import make_parser
from hast.config.address import AddressError, parse_address
from hast.config.model import ConfigError
from hast.config.witness_nodes import DEFAULT_WITNESS_NODES, Nodes, load
from hast.daemon import descriptors, logs, node_key
from hast.daemon.daemonize import daemonize
from hast.daemon.notify import Notifier
from hast.daemon.pidfile import Pidfile, PidfileError
from hast.failover.arbiters.witness import DEFAULT_WITNESS_PORT
from hast.failover.arbiters.witness_listener import WitnessServer
from hast.failover.arbiters.witness_server import Witness
from hast.failover.arbiters.witness_state import StateError, StateFile

DEFAULT_STATE = "/var/lib/hast-witness/witness.json"
FORMER_STATE = "/var/lib/hast/witness.json"
DEFAULT_PIDFILE = "/var/run/hast-witness.pid"
EX_OSERR = 71
EX_TEMPFAIL = 75
EX_CONFIG = 78
OPEN = "Without a file of nodes whoever reaches this port is believed, and can make two masters; see hast-witness(8)."

_log = logging.getLogger("hast.witness")


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("hast-witness", "Remembers which of two HAST nodes may go on alone.")
    parser.add_argument(
        "-F", dest="foreground", action="store_true", help="stay in the foreground, log to the terminal"
    )
    parser.add_argument("-d", dest="debug", action="count", default=0, help="log more")
    parser.add_argument(
        "-l", dest="listen", default="", help=f"address, default any address, port {DEFAULT_WITNESS_PORT}"
    )
    parser.add_argument("-f", dest="state", default=DEFAULT_STATE, help=f"state file, default {DEFAULT_STATE}")
    parser.add_argument("-P", dest="pidfile", default=DEFAULT_PIDFILE, help=f"default {DEFAULT_PIDFILE}")
    parser.add_argument(
        "--nodes", metavar="FILE", help=f"pairs and their fingerprints, default {DEFAULT_WITNESS_NODES} if it exists"
    )
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--show-key", action="store_true", help="print the fingerprint of this witness, for hast.conf")
    keys.add_argument("--next-key", action="store_true", help="prepare another key and print its fingerprint")
    keys.add_argument("--switch-key", action="store_true", help="change to the key that was prepared")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Entry point; exits with a sysexits code."""
    completion.answer("hast-witness", _parser)
    arguments = _parser().parse_args(argv)
    try:
        if arguments.show_key or arguments.next_key or arguments.switch_key:
            sys.exit(_manage_key(arguments))
        sys.exit(_run(arguments))
    except (AddressError, StateError, node_key.NodeKeyError) as error:
        code, text = EX_CONFIG, str(error)
    except (PidfileError, ConfigError) as error:
        code, text = error.exit_code, str(error)
    except OSError as error:
        code, text = EX_TEMPFAIL, f"cannot listen on {arguments.listen or 'any address'}: {error.strerror}"
    print(f"hast-witness: {text}", file=sys.stderr)
    sys.exit(code)


def _manage_key(arguments: argparse.Namespace) -> int:
    """The key lies beside the state file. What is made belongs to whom the directory belongs to."""
    directory = _state_path(arguments).parent
    _become_owner_of(directory)
    if arguments.next_key:
        print(node_key.generate(directory, following=True))
        print("Beside the present one in hast.conf of all nodes, hastctl reload; then hast-witness --switch-key here.")
    elif arguments.switch_key:
        print(node_key.switch(directory))
        print("The former fingerprint can go out of hast.conf of all nodes.")
    else:
        print(_own_fingerprint(directory))
    return 0


def _become_owner_of(directory: Path) -> None:
    """Root, asked by an administrator, writes nothing into the directory of another user but as that user."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = directory.stat()
        if os.geteuid() == 0 != owner.st_uid:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
    except OSError as error:
        raise StateError(f"{directory} cannot be used: {error.strerror}") from None


def _own_fingerprint(directory: Path) -> str:
    """Of the key, which is made where there is none. Raises NodeKeyError."""
    try:
        missing = not (directory / node_key.CERTIFICATE).exists()
    except OSError as error:
        raise node_key.NodeKeyError(f"the key in {directory} cannot be read: {error.strerror}; try as root") from None
    if missing:
        node_key.generate(directory)
    return node_key.own_fingerprint(directory)


def _state_path(arguments: argparse.Namespace) -> Path:
    """Raises StateError where the default was another once, and its file would be left unread."""
    path = Path(arguments.state).absolute()
    if arguments.state == DEFAULT_STATE and _sees(FORMER_STATE) and not path.exists():
        text = f"{FORMER_STATE} is a witness's state, and the default is {DEFAULT_STATE} now"
        raise StateError(f"{text}: move it there, or say -f {FORMER_STATE}")
    return path


def _sees(path: str) -> bool:
    """Whether there is such a file, as far as this user may know."""
    try:
        return Path(path).exists()
    except OSError:
        return False


def _run(arguments: argparse.Namespace) -> int:
    host, port = "", DEFAULT_WITNESS_PORT
    if arguments.listen:
        address = parse_address(arguments.listen, DEFAULT_WITNESS_PORT)
        host, port = address.host, address.port
    state = StateFile(_state_path(arguments))
    nodes_path = arguments.nodes or DEFAULT_WITNESS_NODES
    nodes = _nodes(nodes_path, needed=arguments.nodes is not None)
    witness = Witness(state, time.monotonic())
    if nodes is None and witness.knows_pairs:
        text = f"{state.path} remembers pairs that have keys, and there is no {nodes_path}"
        raise StateError(f"{text}: write it, or move the state file away to believe everybody from now on")
    key_trouble = _make_key(state.path.parent, needed=nodes is not None)
    notifier = Notifier()
    pidfile = Pidfile(str(Path(arguments.pidfile).absolute()), "hast-witness")
    try:
        if arguments.foreground:
            pidfile.write()
        else:
            daemonize(pidfile.write)
        logs.setup(foreground=arguments.foreground, debug=arguments.debug, program="hast-witness")
        if key_trouble:
            _log.warning("%s.", key_trouble)
        try:
            asyncio.run(_serve(witness, state.path.parent, (host, port), nodes, nodes_path, notifier))
        finally:
            logs.flush()
    finally:
        pidfile.close()
    return 0


def _nodes(path: str, *, needed: bool) -> Nodes | None:
    """None where there is no such file, and none was asked for. Raises ConfigError."""
    return load(path) if needed or os.path.lexists(path) else None


def _make_key(directory: Path, *, needed: bool) -> str:
    """Why there is none, where it can be done without. Raises NodeKeyError."""
    try:
        _own_fingerprint(directory)
    except node_key.NodeKeyError as error:
        if needed:
            raise
        return f"This witness has no key yet: {error}"
    return ""


async def _serve(
    witness: Witness, directory: Path, where: tuple[str, int], nodes: Nodes | None, nodes_path: str, notifier: Notifier
) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    descriptors.allow()  # limits on connections are the server's own
    server = await WitnessServer(witness, nodes, directory).start(*where)
    loop.add_signal_handler(signal.SIGHUP, _reload, server, nodes_path)
    _tell_whom(server)
    beating = loop.create_task(notifier.beat())
    notifier.ready(f"Listening on {where[0] or 'any address'}, port {where[1]}.")
    await stopping.wait()
    notifier.stopping()
    beating.cancel()
    server.close()


def _reload(server: WitnessServer, path: str) -> None:
    """A file that is wrong, or gone, leaves the one before in force."""
    try:
        server.nodes = _nodes(path, needed=server.nodes is not None)
    except ConfigError as error:
        _log.error("The file of nodes stays as it was: %s.", error)
        return
    _tell_whom(server)


def _tell_whom(server: WitnessServer) -> None:
    if server.nodes is None:
        _log.warning("%s", OPEN)
        return
    pairs = {member.pair.name for member in server.nodes.values()}
    _log.info("Serving %s.", f"{len(pairs)} pairs, known by their keys" if len(pairs) != 1 else "one pair by its keys")


if __name__ == "__main__":
    main()
