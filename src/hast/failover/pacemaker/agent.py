"""The resource agent ocf:hast:hast: start, stop, monitor, promote, demote, notify, meta-data, validate-all.

Run by Pacemaker with its parameters in the environment; one action, then an exit code (OCF resource agent API 1.1).
hastd does what is ordered; who may be promoted is decided in `decisions/standing.py`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from hast.failover.hastd import Hastd, HastdError
from hast.failover.pacemaker import cluster, metadata
from hast.failover.pacemaker.cluster import ClusterError
from hast.failover.pacemaker.decisions import standing
from hast.failover.pacemaker.decisions.standing import Ocf
from hast.format.text import printable

ASK_S = 10.0
POLL_S = 0.5
DEFAULT_TIMEOUT_S = 60.0
MARGIN_S = 5.0
"""What is left of the time of an action for its end."""


class Failure(Exception):
    """An action did not succeed. `str()` is one line."""

    def __init__(self, code: Ocf, text: str) -> None:
        super().__init__(text)
        self.code = code


class Agent:
    """One action of one instance."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Raises Failure for parameters that cannot be used."""
        self.names = environment.get("OCF_RESKEY_resources", "").split()
        if not self.names:
            raise Failure(Ocf.CONFIGURED, "the parameter resources names none")
        try:
            self._grace_s = float(environment.get("OCF_RESKEY_grace") or metadata.DEFAULT_GRACE_S)
            limit_ms = float(environment.get("OCF_RESKEY_CRM_meta_timeout") or DEFAULT_TIMEOUT_S * 1000)
        except ValueError:
            raise Failure(Ocf.CONFIGURED, "grace is not a number of seconds") from None
        self._news = tuple(environment.get(f"OCF_RESKEY_CRM_meta_notify_{key}", "") for key in ("type", "operation"))
        self._is_probe = environment.get("OCF_RESKEY_CRM_meta_interval", "0") == "0"
        self._until_s = time.monotonic() + max(MARGIN_S, limit_ms / 1000 - MARGIN_S)
        self._hastd = Hastd(environment.get("OCF_RESKEY_control") or metadata.DEFAULT_CONTROL)

    # --- actions ------------------------------------------------------------------------------------------------------

    def start(self) -> Ocf:
        """Secondary. A node that is primary already keeps that until it is told otherwise."""
        code, _ = standing.answer(self._status())
        if code not in (Ocf.SUCCESS, Ocf.RUNNING_PROMOTED):
            self._order("secondary")
        return self._settled(Ocf.SUCCESS, Ocf.RUNNING_PROMOTED)

    def promote(self) -> Ocf:
        """Primary, with its device; refused for a copy that is not good. The next monitor tells the new score."""
        entries = self._status()
        if standing.answer(entries)[0] is not Ocf.RUNNING_PROMOTED:
            try:
                found = standing.score(entries, self._outdated())
            except ClusterError as error:
                raise Failure(Ocf.GENERIC, f"the cluster does not say whether this copy is outdated: {error}") from None
            if found is None:
                raise Failure(Ocf.GENERIC, "the copy of this node is not good enough to serve: see hastctl status")
            self._order("primary")
        return self._settled(Ocf.RUNNING_PROMOTED, tell=False)

    def demote(self) -> Ocf:
        """Secondary. Refused by hastd while the device is in use: what uses it has to be stopped before."""
        if standing.answer(self._status())[0] is not Ocf.SUCCESS:
            self._order("secondary")
        return self._settled(Ocf.SUCCESS)

    def stop(self) -> Ocf:
        """Role init. Without hastd that is so, unless workers live on that wait for the next one."""
        try:
            entries = self._status()
        except Failure:
            if _workers():
                raise
            entries = []
        if any(each.get("role") != "init" and not each.get("error") for each in entries):
            self._order("init")
        try:
            cluster.forget_score()
        except ClusterError as error:
            _say(f"the promotion score stays: {error}")
        return Ocf.SUCCESS

    def monitor(self) -> Ocf:
        """The role; and the promotion score follows the state of the copies."""
        try:
            entries = self._status(0.0 if self._is_probe else None)
        except Failure:
            if self._is_probe and not _workers():
                return Ocf.NOT_RUNNING
            raise
        code, text = standing.answer(entries)
        if text:
            _say(text)
        if code in (Ocf.SUCCESS, Ocf.RUNNING_PROMOTED):
            self._tell_cluster(entries)
        return code

    def notify(self) -> Ocf:
        """The other instance was started or stopped: that may have made this copy better or worse.

        Nothing in a promotion or demotion: each score that changes makes Pacemaker plan anew. The next monitor tells.
        """
        if self._news in (("post", "start"), ("post", "stop")):
            self._tell_cluster(self._status(0.0))
        return Ocf.SUCCESS

    def validate(self) -> Ocf:
        """Whether hastd answers and knows the resources."""
        code, text = standing.answer(self._status(0.0))
        if code is Ocf.CONFIGURED:
            raise Failure(code, text)
        return Ocf.SUCCESS

    # --- hastd --------------------------------------------------------------------------------------------------------

    def _status(self, patience_s: float | None = None) -> list[dict[str, Any]]:
        """The status objects, in order. A hastd that is being restarted is waited for. Raises Failure."""
        patience_s = self._grace_s if patience_s is None else patience_s
        until_s = min(time.monotonic() + patience_s, self._until_s)
        while True:
            try:
                reply = self._hastd.ask({"command": "status", "resources": self.names, "fresh": True}, ASK_S)
                return [each for each in reply.get("resources") or () if isinstance(each, dict)]
            except HastdError as error:
                if time.monotonic() >= until_s:
                    raise Failure(Ocf.GENERIC, str(error)) from None
            time.sleep(POLL_S)

    def _order(self, role: str) -> None:
        """All resources at once, never by force. Raises Failure."""
        left_s = max(1.0, self._until_s - time.monotonic())
        request = {"command": "role", "role": role, "resources": self.names, "wait": True, "timeout_s": left_s}
        try:
            reply = self._hastd.ask(request, left_s)
        except HastdError as error:
            raise Failure(Ocf.GENERIC, str(error)) from None
        troubles = [
            f"{each.get('name')}: {each['error']}" for each in reply.get("resources") or () if each.get("error")
        ]
        if troubles:
            raise Failure(Ocf.GENERIC, "; ".join(troubles))

    def _settled(self, *wanted: Ocf, tell: bool = True) -> Ocf:
        """Look whether it is as it should be. Raises Failure."""
        entries = self._status()
        code, text = standing.answer(entries)
        if code not in wanted:
            raise Failure(Ocf.GENERIC, text or f"the roles are {' '.join(str(each.get('role')) for each in entries)}")
        if tell:
            self._tell_cluster(entries)
        return Ocf.SUCCESS

    # --- the cluster --------------------------------------------------------------------------------------------------

    def _tell_cluster(self, entries: list[dict[str, Any]]) -> None:
        """Promotion score; and the end of the note that the other node's copy is outdated. Never fails an action."""
        try:
            found = standing.score(entries, self._outdated())
            cluster.set_score(standing.NEVER if found is None else str(found))
            whole = standing.whole_again(entries)
            if whole and len(whole) == len(entries):
                self._forgive(whole)
        except ClusterError as error:
            _say(str(error))

    def _outdated(self) -> frozenset[str]:
        """Raises ClusterError."""
        own = cluster.own_name()
        return frozenset(name for name in self.names if cluster.is_outdated(own, name))

    @staticmethod
    def _forgive(names: list[str]) -> None:
        """Of this node too: what was noted in a part of the cluster that lost may have come back with it."""
        for node in cluster.nodes():
            for name in names:
                if cluster.is_outdated(node.name, name):
                    cluster.forget_outdated(node.name, name)


def _workers() -> bool:
    """Whether workers of this host live, with or without a hastd."""
    from hast.worker.worker_record import records

    return any(record.is_alive() for record in records())


def _say(text: str) -> None:
    """Pacemaker logs what its agents write to standard error."""
    print(f"hast: {printable(text)}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """The agent; `argv` is the action."""
    arguments = sys.argv[1:] if argv is None else argv
    action = arguments[0] if len(arguments) == 1 else ""
    if action == "meta-data":
        print(metadata.text())
        return Ocf.SUCCESS
    calls: dict[str, Callable[[Agent], Ocf]] = {
        "start": Agent.start,
        "stop": Agent.stop,
        "promote": Agent.promote,
        "demote": Agent.demote,
        "monitor": Agent.monitor,
        "status": Agent.monitor,
        "notify": Agent.notify,
        "validate-all": Agent.validate,
    }
    if action not in calls:
        _say(f"usage: hast {{{'|'.join([*calls, 'meta-data'])}}}")
        return Ocf.UNIMPLEMENTED
    try:
        return calls[action](Agent(os.environ))
    except Failure as failure:
        _say(f"{action}: {failure}")
        return failure.code
