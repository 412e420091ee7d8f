"""failover.conf: what is read, and what every mistake is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hast.config.failover_model import FailoverConfiguration, HookTime, IscsiExport, Lun, NbdExport, NbdTls, PoolKind
from hast.config.failoverconf import load, parse
from hast.config.model import ConfigError

EXAMPLE = """
# both nodes
resources disk1 disk2 disk3 delay 0
wait 30
pool zhast
pool mail { type filesystem resource disk1 mount /srv/mail fstype ext4 options "noatime,nodev" fsck on kill 3 }
export nbd disk2 { listen 0.0.0.0:10809 [::]:10809 clients 4 allow 10.1.2.3 fd00::/8 }
export iscsi iqn.2026-01.test.hast:storage { lun 1 /dev/hast/disk3 initiator ALL }
service smbd.service
service web { start "systemctl start \\"x\\"" stop "b" status "c" timeout 5 }
hook after-master "/usr/local/bin/page # me" timeout 4
"""


def test_a_full_file_is_read_in_order() -> None:
    conf = parse(EXAMPLE, "f")
    assert (conf.resources, conf.delay_s, conf.wait_s) == (("disk1", "disk2", "disk3"), 0, 30)
    zhast, mail = conf.pools
    assert (zhast.name, zhast.kind, zhast.force, zhast.resources) == ("zhast", PoolKind.ZFS, True, ())
    assert (mail.kind, mail.mount, mail.fs_type, mail.fsck) == (PoolKind.FILESYSTEM, "/srv/mail", "ext4", True)
    assert (mail.options, mail.kill_after_s, mail.resources) == ("noatime,nodev", 3.0, ("disk1",))
    nbd, iscsi = conf.exports
    clients = ("10.1.2.3/32", "fd00::/8")
    assert nbd == NbdExport("disk2", ("0.0.0.0:10809", "[::]:10809"), clients, max_clients=4)
    assert iscsi == IscsiExport("iqn.2026-01.test.hast:storage", (Lun(1, "/dev/hast/disk3"),), ("ALL",))
    unit, web = conf.services
    assert unit.unit == "smbd.service"
    assert (web.start, web.stop, web.status, web.timeout_s, web.unit) == ('systemctl start "x"', "b", "c", 5.0, None)
    assert conf.hooks[0].when is HookTime.AFTER_MASTER
    assert conf.hooks[0].command == "/usr/local/bin/page # me"
    assert conf.hooks[0].timeout_s == 4.0


def test_clients_with_keys_need_no_list_and_one_may_stand_beside() -> None:
    text = """export nbd a { tls-certificates /c } export nbd b { tls-psk /k allow 10.0.0.0/8 }
    export nbd c { tls-certificates /c verify-peer off allow ALL }
    export iscsi i { lun 1 /x chap /p } export iscsi j { lun 1 /x chap /p initiator iqn.me 10.0.0.1 }"""
    a, b, c, i, j = parse(text, "f").exports
    assert a == NbdExport("a", allow=("ALL",), tls=NbdTls("/c"))
    assert b == NbdExport("b", allow=("10.0.0.0/8",), tls=NbdTls(psk="/k"))
    assert c == NbdExport("c", allow=("ALL",), tls=NbdTls("/c", verify_peer=False))
    assert i == IscsiExport("i", (Lun(1, "/x"),), ("ALL",), "/p")
    assert j == IscsiExport("j", (Lun(1, "/x"),), ("iqn.me", "10.0.0.1"), "/p")


def test_an_empty_file_means_all_resources_and_no_pool() -> None:
    assert parse("", "f") == FailoverConfiguration("f")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("resources", "f:1:10: the file ends too early"),
        ("pool a { foo }", "f:1:10: found 'foo'; expected '}' or a setting"),
        ("delay x", "f:1:7: found 'x'; expected 0 to 86400 seconds"),
        ("delay nan", "f:1:7: found 'nan'"),
        ("delay 1 2", "found 2 words after 'delay'"),
        ("pool a { type filesystem }", "needs `mount DIRECTORY`"),
        ("pool a {\n type foo }", "f:2:7: found 'foo'; expected one of zfs, btrfs"),
        ("pool a { mount /x }", "'mount' does not belong into a pool of type zfs"),
        ("pool a { type filesystem mount x }", "expected a path that begins with '/'"),
        ("pool a { force 1 }", "expected 'on' or 'off'"),
        ("pool a { kill 1 kill 2 }", "stands twice"),
        ("pool a pool a", "f:1:8: pool 'a' stands here twice"),
        ("resources a a", "same resource"),
        ("service x { start a }", "needs both `start` and `stop`"),
        ("service x { lun 1 }", "does not belong into a service"),
        ("export nbd z { allow ALL } resources a", "uses resource 'z', which `resources` does not list"),
        ("export nbd z", "f:1:1: export 'z' is for nobody: it needs `allow ADDRESS ...`"),
        ("export nbd z { tls-certificates /c verify-peer off }", "export 'z' is for nobody"),
        ("export nbd z { tls-certificates /c tls-psk /k }", "has both"),
        ("export nbd z { tls-psk /k verify-peer off }", "`verify-peer` belongs to `tls-certificates`"),
        ("export nbd z { allow 10.0.0.1/24 }", "found '10.0.0.1/24'; expected an address, a network"),
        ("export nbd z { allow example.org }", "expected an address, a network"),
        ("export iscsi a { lun 1 /x }", "export 'a' is for nobody: it needs `initiator ADDRESS ...` or `chap FILE`"),
        ("export iscsi a { lun 1 /x chap y }", "expected a path that begins with '/'"),
        ("export nbd z { allow ALL clients 0 }", "expected a number from 1 to 1000"),
        ("export iscsi a { lun 1 }", "odd number of words"),
        ("export iscsi a", "needs at least one `lun NUMBER PATH`"),
        ("export iscsi a { lun 1 /x 1 /y }", "same unit number"),
        ("export smb a", "expected 'nbd' or 'iscsi'"),
        ("hook x y", "expected 'before-master'"),
        ("hook failure a stop 3", "expected 'timeout' or the next statement"),
        ('pool "a', "f:1:6: found '\"'"),
        ("{", "f:1:1: found '{'"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_was_expected(text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert error in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_file_that_cannot_be_read_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Unable to open configuration file") as caught:
        load(str(tmp_path / "none"))
    assert caught.value.exit_code == 72
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(str(tmp_path / "binary"))
    (tmp_path / "big").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load(str(tmp_path / "big"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*EXAMPLE.split(), "{", "}", '"', "\\", "x"]), max_size=25).map(" ".join) | st.text())
def test_any_text_is_read_or_refused_with_one_line(text: str) -> None:
    problem = ""
    try:
        parse(text, "f")
    except ConfigError as error:
        problem = str(error)
    assert "\n" not in problem
