"""What keeps an export of failover.conf from coming up on this host. Reads its files, starts nothing."""

from __future__ import annotations

from collections.abc import Iterator

from hast.config.failover_model import FailoverConfiguration, IscsiExport, NbdExport
from hast.failover.exports.iscsi import read_account
from hast.failover.exports.nbd_tls import TlsSetupError, server_context
from hast.failover.exports.virtual_address import virtual_addresses
from hast.failover.part import PartError


def export_problems(configuration: FailoverConfiguration) -> list[str]:
    """One line each: which export, what is wrong, what to do."""
    found = []
    for export in configuration.exports:
        kind, name = ("nbd", export.resource) if isinstance(export, NbdExport) else ("iscsi", export.iqn)
        try:
            found += [f"export {kind} {name}: {problem}" for problem in _of(export)]
        except (TlsSetupError, PartError) as error:
            found.append(f"export {kind} {name}: {error}")
    return found


def _of(export: NbdExport | IscsiExport) -> Iterator[str]:
    if isinstance(export, IscsiExport):
        if export.chap is not None:
            read_account(export.chap)
        return
    if not export.listen and not virtual_addresses(export.resource):
        yield "no address to listen on: carp.conf has none, and there is no `listen`"
    if export.tls is not None:
        server_context(export.tls)
