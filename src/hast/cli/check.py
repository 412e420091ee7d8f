"""What `hastctl check` says of keys and links, beside the configuration itself. Looks, and changes nothing."""

from __future__ import annotations

import functools
from pathlib import Path

from hast.cli.remote import is_tunnelled
from hast.config.failover_model import DEFAULT_FAILOVER_CONF
from hast.config.link_security import Finding, OwnKey, findings
from hast.config.model import ConfigError, Configuration, Resource
from hast.daemon import node_key
from hast.daemon.paths import state_directory
from hast.daemon.private_file import is_readable_by_others


def link_findings(configuration: Configuration) -> list[Finding]:
    """Of this host, with the key that is on its disk."""
    asked_once = functools.cache(is_tunnelled)

    def is_encrypted_below(resource: Resource) -> bool:
        return all(asked_once(remote) for remote in resource.remotes)

    return findings(configuration, _own_key(), is_encrypted_below)


def export_findings() -> list[Finding]:
    """Of the exports in failover.conf, where there is one."""
    if not Path(DEFAULT_FAILOVER_CONF).exists():
        return []
    from hast.config.failoverconf import load
    from hast.failover.exports.problems import export_problems

    try:
        return [Finding(problem) for problem in export_problems(load(DEFAULT_FAILOVER_CONF))]
    except ConfigError as error:
        return [Finding(str(error))]


def _own_key() -> OwnKey:
    fingerprint, problem = "", ""
    try:
        fingerprint = node_key.own_fingerprint()
    except node_key.NodeKeyError as error:
        problem = str(error)
    keys = (state_directory() / name for name in (node_key.KEY, node_key.NEXT_KEY))
    return OwnKey(fingerprint, problem, tuple(str(path) for path in keys if is_readable_by_others(path)))
