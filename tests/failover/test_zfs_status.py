"""What `zpool status` and `zdb -l` print: as zfs-fuse was seen to, and in the form of OpenZFS (written by hand)."""

from __future__ import annotations

import pytest

from hast.failover.pools.zfs_status import Label, parse_label, parse_status

FUSE_SUSPENDED = """  pool: zhast
 state: ONLINE
status: One or more devices are faulted in response to IO failures.
action: Make sure the affected devices are connected, then run 'zpool clear'.
   see: http://www.sun.com/msg/ZFS-8000-HC
 scrub: none requested
config:

\tNAME            STATE     READ WRITE CKSUM
\tzhast           ONLINE       0    10     0
\t  raidz1-0      ONLINE       0     2     0
\t    hast/disk1  ONLINE       0     2     0
\t    hast/disk2  UNAVAIL      0     0     0  experienced I/O failures

errors: 3 data errors, use '-v' for a list
"""
KERNEL = """  pool: zhast
 state: {state}
  scan: resilvered 88K in 00:00:00 with 0 errors
config:

\tNAME                STATE     READ WRITE CKSUM
\tzhast               ONLINE       0     0     0
\t  /dev/hast/disk1   ONLINE       0     0     0
\tspares
\t  /dev/hast/disk4   AVAIL

errors: No known data errors
"""
LABEL = """------------------------------------
LABEL 0
------------------------------------
    version: 5000
    name: 'zhast'
    state: {state}
    txg: 4
    hostid: 168430081
    hostname: 'hast1.freebsd.loc'
    vdev_tree:
        type: 'disk'
"""


def test_zfs_fuse_tells_in_words_only_that_a_pool_is_suspended() -> None:
    found = parse_status(FUSE_SUSPENDED)
    assert (found.state, found.suspended) == ("ONLINE", True)
    assert found.vdevs[2:] == (("hast/disk1", "ONLINE"), ("hast/disk2", "UNAVAIL"))


@pytest.mark.parametrize(("state", "suspended"), [("ONLINE", False), ("DEGRADED", False), ("SUSPENDED", True)])
def test_the_kernels_status_is_read(state: str, suspended: bool) -> None:
    found = parse_status(KERNEL.format(state=state))
    assert (found.state, found.suspended) == (state, suspended)
    assert found.vdevs == (("zhast", "ONLINE"), ("/dev/hast/disk1", "ONLINE"), ("/dev/hast/disk4", "AVAIL"))


@pytest.mark.parametrize("text", ["", "cannot open 'zhast': no such pool", "state", "config:\n\nerrors:"])
def test_what_names_no_state_is_no_status(text: str) -> None:
    with pytest.raises(ValueError, match="no state"):
        parse_status(text)


def test_a_label_tells_who_had_the_pool_last() -> None:
    assert parse_label(LABEL.format(state=0)) == Label("hast1.freebsd.loc", exported=False)
    assert parse_label(LABEL.format(state=1)) == Label("hast1.freebsd.loc", exported=True)
    assert parse_label("failed to unpack label 0") is None
