"""An iSCSI target of tgt, on the master only, with the same name, units and serial numbers on both nodes.

Initiators that lose the old master log in again at the virtual address and find the same disks there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from hast.config.failover_model import IscsiExport, Lun
from hast.daemon.private_file import complaint
from hast.failover import holders
from hast.failover.part import Context, Part, PartError

START_S = 10.0
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 16
"""What initiators take: RFC 7143 asks for 96 bits at least, Windows for no more than 16 characters."""
_TARGET = re.compile(r"^Target (\d+): (\S+)", re.MULTILINE)
_LUN = re.compile(r"^\s+LUN: (\d+)$", re.MULTILINE)
_CONNECTION = re.compile(r"^\s*(Session|Connection): (\d+)", re.MULTILINE)
_PATH = re.compile(r"Backing store path: (\S+)")


@dataclass(slots=True)
class Target:
    """What tgtd says of one target."""

    tid: int
    iqn: str
    luns: dict[int, str] = field(default_factory=dict)
    access: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


def parse_targets(text: str) -> list[Target]:
    """Read the output of `tgtadm --mode target --op show`."""
    _, *pieces = _TARGET.split(text)
    return [_target(*pieces[index : index + 3]) for index in range(0, len(pieces), 3)]


def _target(tid: str, iqn: str, body: str) -> Target:
    before, _, access = body.partition("ACL information:")
    units, _, users = before.partition("Account information:")
    _, *pieces = _LUN.split(units)
    paths = {int(number): _PATH.search(text) for number, text in zip(pieces[::2], pieces[1::2], strict=True)}
    luns = {number: path[1] for number, path in paths.items() if path and path[1] != "None"}
    return Target(int(tid), iqn, luns, tuple(access.split()), tuple(users.split()))


def read_account(path: str) -> tuple[str, str]:
    """User and password for CHAP. Raises PartError."""
    problem = complaint(path, "a password")
    if problem:
        raise PartError(problem)
    try:
        words = Path(path).read_text().split()
    except (OSError, ValueError) as error:
        raise PartError(f"{path} cannot be read: {getattr(error, 'strerror', '') or 'no text'}") from None
    if len(words) != 2 or not SHORTEST_PASSWORD <= len(words[1]) <= LONGEST_PASSWORD:
        wanted = f"a user and a password of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
        raise PartError(f"{path}: expected {wanted} in one line")
    return words[0], words[1]


def _initiator(text: str) -> tuple[str, str]:
    return ("-Q" if text.startswith(("iqn.", "eui.", "naa.")) else "-I", text)


class IscsiTarget(Part):
    """One target."""

    def __init__(self, export: IscsiExport) -> None:
        self.name = f"export iscsi {export.iqn}"
        self.timeout_s = export.timeout_s
        self._export = export

    def is_up(self, context: Context) -> bool | None:
        """Whether the target is there as configured; None when only parts of it are."""
        target = self._find(context)
        if target is None:
            return False
        units = {lun.number: lun.path for lun in self._export.luns}
        same = target.luns == units and set(target.access) == set(self._export.initiators)
        return True if same and len(target.users) == (self._export.chap is not None) else None

    def ailment(self, context: Context) -> str:
        """Units of devices that are gone: tgtd goes on with what it opened, whatever has the name now."""
        daemons = holders.called("tgtd")
        gone = [lun.path for lun in self._export.luns if daemons and not self._is_served(lun.path, daemons)]
        return f"exported, but tgtd has something else open than {' '.join(gone)}" if gone else ""

    @staticmethod
    def _is_served(path: str, daemons: list[int]) -> bool:
        try:
            return any(holders.has_open(pid, path) for pid in daemons)
        except OSError:
            return False

    def up(self, context: Context) -> None:
        """Start tgtd if need be, then make the target, its units, and let the initiators in last."""
        try:
            account = read_account(self._export.chap) if self._export.chap is not None else None
            self._start_daemon(context)
            self._remove(context)
            used = {target.tid for target in self._targets(context) or ()}
            tid = next(number for number in range(1, 65536) if number not in used)
            self._admin(context, "target", "new", tid, "-T", self._export.iqn)
            for lun in self._export.luns:
                self._add_unit(context, tid, lun)
            if account is not None:
                self._add_account(context, tid, *account)
            for initiator in self._export.initiators:
                self._admin(context, "target", "bind", tid, *_initiator(initiator))
        except PartError as error:
            context.log.error(f"Unable to export {self._export.iqn} by iSCSI: {error}.")
            raise
        context.log.debug(f"Target {self._export.iqn} exported by iSCSI.")

    def down(self, context: Context) -> None:
        """Remove the target with its connections; the devices are closed after this."""
        try:
            self._remove(context)
        except PartError as error:
            context.log.error(f"Unable to remove iSCSI target {self._export.iqn}: {error}.")
            raise
        context.log.debug(f"Target {self._export.iqn} no longer exported by iSCSI.")

    def summary(self, up: bool) -> str:
        """One line for --plan."""
        units = " ".join(lun.path for lun in self._export.luns)
        return f"make iSCSI target {self._export.iqn} of {units}" if up else f"remove iSCSI target {self._export.iqn}"

    def _add_unit(self, context: Context, tid: int, lun: Lun) -> None:
        number = str(lun.number)
        self._admin(context, "logicalunit", "new", tid, "--lun", number, "-b", lun.path)
        digest = hashlib.sha256(f"{self._export.iqn} {number}".encode()).hexdigest()
        identity = f"vendor_id=HAST,product_id=HAST,scsi_id={digest[:16]},scsi_sn={digest[:16]}"
        self._admin(context, "logicalunit", "update", tid, "--lun", number, "--params", identity)

    def _add_account(self, context: Context, tid: int, user: str, password: str) -> None:
        """Anew: what tgtd has under this name may have another password. Never shown, also not when it fails."""
        argv = self._account("delete", "--user", user)
        context.commands.run(argv, context.left_s())
        made = context.commands.run(self._account("new", "--user", user, "--password", password), context.left_s())
        if made.code != 0:
            raise PartError(f"tgtd does not take the user '{user}' of {self._export.chap}")
        context.run(*self._account("bind", "--tid", str(tid), "--user", user))

    def _account(self, operation: str, *more: str) -> tuple[str, ...]:
        port = str(self._export.control_port)
        return ("tgtadm", "-C", port, "--lld", "iscsi", "--mode", "account", "--op", operation, *more)

    def _remove(self, context: Context) -> None:
        """Let nobody in any more, end the sessions, delete; again while commands are still under way."""
        problem = "it is still there"
        while (target := self._find(context)) is not None:
            if not context.left_s():
                raise PartError(f"target {target.iqn} cannot be deleted: {problem}")
            for initiator in target.access:
                argv = self._argv("target", "unbind", target.tid, *_initiator(initiator))
                context.commands.run(argv, context.left_s())
            self._end_sessions(context, target.tid)
            argv = self._argv("target", "delete", target.tid, "--force")
            result = context.commands.run(argv, context.left_s())
            if result.code != 0:
                problem = result.problem()
                context.pause(0.02)

    def _end_sessions(self, context: Context, tid: int) -> None:
        shown = context.commands.run(self._argv("conn", "show", tid), context.left_s())
        session = "0"
        for kind, number in _CONNECTION.findall(shown.output):
            if kind == "Session":
                session = number
                continue
            argv = self._argv("conn", "delete", tid, "--sid", session, "--cid", number)
            context.commands.run(argv, context.left_s())

    def _find(self, context: Context) -> Target | None:
        targets = self._targets(context) or ()
        return next((target for target in targets if target.iqn == self._export.iqn), None)

    def _targets(self, context: Context) -> list[Target] | None:
        """All targets, None when tgtd does not run."""
        result = context.commands.run(
            ("tgtadm", "-C", str(self._export.control_port), "--lld", "iscsi", "--mode", "target", "--op", "show"),
            context.left_s(),
        )
        return parse_targets(result.output) if result.code == 0 else None

    def _start_daemon(self, context: Context) -> None:
        if self._targets(context) is not None:
            return
        if self._export.control_port == 0 and Path("/run/systemd/system").is_dir():
            argv: tuple[str, ...] = ("systemctl", "start", "tgt")
        else:
            argv = ("tgtd", "-C", str(self._export.control_port))
        result = context.commands.run(argv, min(START_S, context.left_s()), marked=False)
        if result.code != 0:
            raise PartError(f"tgtd cannot be started: {result.problem()}")
        while self._targets(context) is None:
            if not context.left_s():
                raise PartError("tgtd was started but does not answer tgtadm")
            context.pause()

    def _admin(self, context: Context, mode: str, operation: str, tid: int, *more: str) -> None:
        context.run(*self._argv(mode, operation, tid, *more))

    def _argv(self, mode: str, operation: str, tid: int, *more: str) -> tuple[str, ...]:
        port = str(self._export.control_port)
        base = ("tgtadm", "-C", port, "--lld", "iscsi", "--mode", mode, "--op", operation, "--tid", str(tid))
        return (*base, *more)
