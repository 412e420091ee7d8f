"""What the agent and the fence program ask of Pacemaker, by its own commands; each call ends by its deadline."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

CALL_S = 15.0
OUTDATED = "hast-outdated-"
"""Attribute of a node, kept over its restarts: another node went on without its copy of this resource."""
_NO_SUCH = 105
_NO_SUCH_OLD = 6
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ClusterError(Exception):
    """Pacemaker could not be asked, or refused; `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Node:
    """As the cluster sees it. `unclean`: it is to be fenced, and nobody knows what it does."""

    name: str
    online: bool
    unclean: bool


def _call(argv: Sequence[str], missing: bool = False) -> str:
    """Output of a command; with `missing`, empty where it says that there is no such thing. Raises ClusterError."""
    environment = {**os.environ, "PATH": os.environ.get("PATH") or PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=CALL_S, check=False, env=environment, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise ClusterError(f"{argv[0]} is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{argv[0]}: {getattr(error, 'strerror', None) or 'no answer in time'}") from None
    if done.returncode in (_NO_SUCH, _NO_SUCH_OLD) and missing:
        return ""
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"{argv[0]}: exit code {done.returncode}{': ' + said[-1] if said else ''}")
    return done.stdout.strip()


def own_name() -> str:
    """Of this node in the cluster. Raises ClusterError."""
    return _call(["crm_node", "--name"])


def set_score(value: str) -> None:
    """The promotion score of the instance that this process acts for. Raises ClusterError.

    With `=`: as a word of its own -INFINITY is taken for a bundle of options.
    """
    _call(["crm_attribute", "--promotion", "--lifetime", "reboot", f"--update={value}", "--quiet"])


def forget_score() -> None:
    """Raises ClusterError."""
    _call(["crm_attribute", "--promotion", "--lifetime", "reboot", "--delete", "--quiet"], missing=True)


def is_outdated(node: str, resource: str) -> bool:
    """Raises ClusterError."""
    return _attribute(node, resource, "--query", "--quiet") == "true"


def note_outdated(node: str, resource: str) -> None:
    """Durably, for the whole cluster. Raises ClusterError."""
    _attribute(node, resource, "--update", "true")


def forget_outdated(node: str, resource: str) -> None:
    """Raises ClusterError."""
    _attribute(node, resource, "--delete")


def _attribute(node: str, resource: str, *action: str) -> str:
    where = ["--node", node, "--name", OUTDATED + resource, "--lifetime", "forever"]
    return _call(["crm_attribute", *where, *action], missing=True)


def nodes() -> list[Node]:
    """All of the cluster. Raises ClusterError."""
    try:
        root = ET.fromstring(_call(["crm_mon", "--one-shot", "--output-as=xml", "--include=nodes"]))
    except ET.ParseError as error:
        raise ClusterError(f"crm_mon: {error}") from None
    return [
        Node(each.get("name", ""), each.get("online") == "true", each.get("unclean") == "true")
        for each in root.iterfind("./nodes/node")
    ]
