"""A site on the ground of the lab: what counts is kept, and nothing of this machine is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from drill_sites import ARTICLE, changed, site
from hypothesis import given
from hypothesis import strategies as st

from hast.config import carpconf, devdconf, failoverconf, hastconf
from hast.config.host import Host
from hast.config.model import ArbiterKind
from hast.drill.decisions import ground, seal
from hast.drill.decisions.follow import failover_verb
from hast.drill.decisions.translate import Rehearsed, Tools, translate
from hast.lab import arbiters, laboratory, records
from hast.lab.cluster import ADDRESS, PORT
from hast.lab.network import NETWORKS

LARGE = {
    "hast.conf": """
control /srv/hast/control
pidfile /srv/hast/pid
listen 192.168.7.1:9000
timeout 7
arbiter witness 172.16.0.9
exec /usr/local/sbin/hook
on alpha { fingerprint AA }
on beta { fingerprint BB }
resource mail { replication memsync checksum crc32 compression lzf tls required name mail0
    on alpha { local /dev/disk/by-id/wwn-0x5000 remote 192.168.7.2:9000 source 192.168.7.1 }
    on beta { local /dev/mapper/x remote 192.168.7.1:9000 } }
resource web { device nbd fence /usr/sbin/fence
    on alpha { local /dev/sdz remote beta } on beta { local /dev/sdz remote alpha } }
""".replace("AA", "a" * 64).replace("BB", "b" * 64),
    "carp.conf": """
control /srv/carp
vhid 7 { name shared interface bond0.7 address 172.16.9.5/24 address 2001:db8::5/64 pass "old secret" advbase 2
    resource mail resource web preempt on on alpha { advskew 0 } on beta { advskew 50 } }
vhid 8 { interface bond1 address 172.20.0.1/16 pass other on alpha { advskew 0 } on beta { advskew 50 } }
""",
    "devd.conf": """
options { set who "shared"; };
notify 40 { match "system" "IFNET"; match "subsystem" "$who"; match "type" "LINK_UP";
    action "/opt/x/failover.sh master"; };
notify 40 { match "subsystem" "shared"; match "type" "LINK_DOWN"; action "/sbin/failover slave"; };
notify 10 { match "subsystem" "bond0.7"; action "mail root </etc/motd"; };
notify 10 { match "cdev" "/dev/sd.*"; action "rm -rf /srv"; };
""",
    "failover.conf": """
resources mail web
delay 3
control /srv/hast/control
log /var/log/failover.log
pool post { type filesystem resource mail mount /srv/post fstype xfs options "nodev" kill 2 timeout 40 }
export nbd web { listen 172.16.9.5:10809 allow 172.16.0.0/16 tls-certificates /etc/pki/nbd }
export iscsi iqn.2026-01.test:x { lun 1 /srv/post/lun initiator ALL }
service smbd.service
service own { start "/opt/own start" stop "/opt/own stop" timeout 9 }
hook failure "mail root"
""",
}


def translated(folder: Path, files: dict[str, str] = ARTICLE, **tools: bool) -> Rehearsed:
    return translate(site(folder, files), Tools(**tools))


def large(folder: Path) -> Rehearsed:
    from drill_sites import write

    from hast.drill.reading import read_site

    return translate(read_site(str(write(folder, LARGE)), "alpha", None), Tools())


def test_the_article_is_on_the_ground_of_the_lab(tmp_path: Path) -> None:
    rehearsed = translated(tmp_path)
    seal.check(rehearsed.files)
    hast = hastconf.parse(rehearsed.files["hast2"]["hast.conf"], "x", Host("hast2"))
    assert [each.local for each in hast.resources.values()] == ["/dev/ad1", "/dev/ad2", "/dev/ad3"]
    assert hast.resources["disk1"].remotes == ("tcp4://192.168.100.100:8457",)
    carp = carpconf.parse(rehearsed.files["hast2"]["carp.conf"], "x", Host("hast2")).groups[0]
    assert (carp.interface, carp.advskew, carp.vhid, carp.password) == ("pub", 100, 1, "drill1")
    assert (rehearsed.arbiter, rehearsed.link, rehearsed.notes) == (ArbiterKind.NONE, "repl", ())


def test_names_numbers_and_modes_of_a_large_site_are_kept(tmp_path: Path) -> None:
    rehearsed = large(tmp_path)
    hast = hastconf.parse(rehearsed.files["hast1"]["hast.conf"], "x", Host("hast1"))
    mail = hast.resources["mail"]
    assert (mail.replication, mail.checksum, mail.compression, mail.timeout_s) == ("memsync", "crc32", "lzf", 7)
    assert (mail.provider_name, mail.remotes) == ("mail0", ("tcp4://192.168.100.101:9000",))
    assert hast.listen == ("tcp4://192.168.100.100:9000",)
    first, second = carpconf.parse(rehearsed.files["hast2"]["carp.conf"], "x", Host("hast2")).groups
    assert (first.name, first.advbase_s, first.advskew, first.preempt) == ("shared", 2, 50, True)
    assert [str(each) for each in (*first.addresses, *second.addresses)] == ["10.10.10.180/24", "10.10.10.200/24"]
    assert (rehearsed.arbiter, rehearsed.keyed) == (ArbiterKind.WITNESS, frozenset({"hast1", "hast2"}))


def test_nothing_of_a_large_site_is_named(tmp_path: Path) -> None:
    rehearsed = large(tmp_path)
    seal.check(rehearsed.files)
    everything = "\n".join(text for files in rehearsed.files.values() for text in files.values())
    for word in (
        "/srv",
        "/opt",
        "/etc",
        "172.",
        "192.168.7",
        "2001:",
        "bond",
        "secret",
        "/dev/sd",
        "mapper",
        "wwn",
        "mail root",
    ):
        assert word not in everything


def test_what_is_not_rehearsed_is_said(tmp_path: Path) -> None:
    notes = "\n".join(large(tmp_path).notes)
    for word in ("exec /usr", "fence", "source", "device nbd", "IPv6", "iscsi", "smbd", "own", "hook failure", "keys"):
        assert word in notes
    assert "pool post (filesystem)" in notes


def test_actions_call_failover_or_do_nothing(tmp_path: Path) -> None:
    rules = devdconf.parse(large(tmp_path).files["hast1"]["devd.conf"], "x").rules
    assert [rule.actions for rule in rules] == [("failover master",), ("failover slave",), ("true",)]
    assert rules[0].accepts({"system": "IFNET", "subsystem": "shared", "type": "LINK_UP"})
    assert rules[2].accepts({"subsystem": "pub"})


def test_a_pool_of_zfs_is_an_ext4_where_zfs_fuse_is_missing(tmp_path: Path) -> None:
    rehearsed = translated(tmp_path, zfs_fuse=False)
    pool = failoverconf.parse(rehearsed.files["hast1"]["failover.conf"], "x").pools[0]
    assert (pool.kind, pool.mount, pool.fs_type, pool.kill_after_s) == ("filesystem", "/pool/zhast", "ext4", 5)
    assert "zfs-fuse is not installed" in rehearsed.notes[0]


def test_a_site_without_a_pool_is_measured_by_its_first_resource(tmp_path: Path) -> None:
    files = changed(ARTICLE, "failover.conf", "pool zhast { kill 5 }\n", "")
    rehearsed = translated(tmp_path, files)
    export = failoverconf.parse(rehearsed.files["hast1"]["failover.conf"], "x").exports[0]
    assert export.listen == (f"{ADDRESS}:{PORT}",)  # type: ignore[union-attr]


def test_one_network_for_both_is_one_in_the_lab(tmp_path: Path) -> None:
    files = changed(
        changed(ARTICLE, "hast.conf", "remote hast2", "remote 10.10.10.182"),
        "hast.conf",
        "remote hast1",
        "remote 10.10.10.181",
    )
    rehearsed = translated(tmp_path, files)
    assert rehearsed.link == "pub"
    assert "192.168" not in rehearsed.files["hast1"]["hast.conf"]


def test_an_arbiter_without_its_program_is_a_witness(tmp_path: Path) -> None:
    files = {**ARTICLE, "hast.conf": "arbiter etcd https://10.0.0.1:2379 credentials /etc/x\n" + ARTICLE["hast.conf"]}
    assert translated(tmp_path, files).arbiter is ArbiterKind.ETCD
    rehearsed = translated(tmp_path, files, etcd=False)
    seal.check(rehearsed.files)
    assert rehearsed.arbiter is ArbiterKind.WITNESS


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("hast.conf", "local /dev/ad1", "local /dev/sda"),
        ("hast.conf", "local /dev/ad1", "local /dev/ad1/../sda"),
        ("hast.conf", "192.168.100.101", "192.168.1.1"),
        ("hast.conf", "resource disk1 {", "exec /bin/sh\nresource disk1 {"),
        ("carp.conf", "10.10.10.180/24", "10.20.10.180/24"),
        ("carp.conf", "10.10.10.180/24", "2001:db8::1/64"),
        ("failover.conf", "pool zhast {", "log /var/log/x pool zhast {"),
        ("failover.conf", "/pool/zhast/volume", "/home/zhast/volume"),
        ("devd.conf", "failover master", "/sbin/reboot"),
    ],
)
def test_the_seal_finds_every_leak(tmp_path: Path, name: str, old: str, new: str) -> None:
    files = {host: dict(texts) for host, texts in translated(tmp_path).files.items()}
    seal.check(files)
    assert old in files["hast1"][name]
    files["hast1"][name] = files["hast1"][name].replace(old, new)
    with pytest.raises(seal.SealError):
        seal.check(files)


def test_a_file_that_nobody_checks_breaks_the_seal(tmp_path: Path) -> None:
    files = {host: {**texts, "fstab": ""} for host, texts in translated(tmp_path).files.items()}
    with pytest.raises(seal.SealError):
        seal.check(files)


@given(st.from_regex(r"/[a-z]{1,8}(/[a-z0-9.]{1,8}){0,3}", fullmatch=True))
def test_only_the_lab_s_paths_are_ours(path: str) -> None:
    assert not ground.is_ours(path) or path.startswith(("/dev/ad", "/pool/", "/run/drill"))


@pytest.mark.parametrize(
    ("action", "verb"),
    [
        ("failover master", "master"),
        ("/usr/local/bin/failover slave", "slave"),
        ("sh /x/failover.sh master", "master"),
        ("failover status", None),
        ("logger failover", None),
        ("echo 'open", None),
    ],
)
def test_the_verb_of_an_action(action: str, verb: str | None) -> None:
    assert failover_verb(action) == verb


def test_the_ground_is_what_the_lab_has() -> None:
    assert laboratory.PAIR == ground.HOSTS
    for name, hosts in ground.HOST_ADDRESSES.items():
        assert hosts == {host: NETWORKS[name].address(laboratory.ADDRESSES[host][name]) for host in ground.HOSTS}
    assert (ADDRESS, PORT, arbiters.ADDRESS) == (ground.FIRST_SHARED, ground.PORT, ground.WITNESS_ADDRESS)
    assert NETWORKS["pub"].gateway == ground.GATEWAY


def test_the_volume_has_room_for_every_record() -> None:
    from hast.drill.decisions import follow

    assert records.SLOTS * records.BLOCK_BYTES == follow.VOLUME_BYTES
