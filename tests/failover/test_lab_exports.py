"""What a client host sees of exports that follow the master: the same NBD and iSCSI disks at the same address."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from hast.lab import Host, Lab
from hast.lab.cluster import status

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("failover-exports")]

ADDRESS = "10.10.10.180"
IQN = "iqn.2026-01.test.hast:storage"
FAILOVER_CONF = f"""
resources disk1 disk2
export nbd disk1 {{ listen {ADDRESS}:10809 allow 10.10.10.0/24 }}
export iscsi {IQN} {{ lun 1 /dev/hast/disk2 initiator 10.10.10.0/24 }}
"""
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    missing = [name for name in ("tgtd", "nbdcopy", "iscsi-inq", "qemu-io") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    with Lab(hosts=("hast1", "hast2", "client"), etc={"failover.conf": FAILOVER_CONF}) as lab:
        for host in (lab.hast1, lab.hast2):
            host.run("hastd", check=True)
            host.run("hastctl create disk1 disk2", check=True)
            host.run("hastctl role secondary disk1 disk2", check=True)
        yield lab


def become_master(host: Host) -> None:
    """With the address, as carpd would set it."""
    host.run(f"ip addr add {ADDRESS}/24 dev pub", check=True)
    done = host.run("failover master", timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr + host.log()[-3000:]


def become_slave(host: Host) -> None:
    done = host.run("failover slave", timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stderr + host.log()[-3000:]
    host.run(f"ip addr del {ADDRESS}/24 dev pub", check=True)


def wait_complete(primary: Host) -> None:
    """Until the other copy has everything: one that is being made cannot serve."""

    def complete() -> bool:
        served = [entry for entry in status(primary).values() if entry["role"] == "primary"]
        return bool(served) and all(entry["status"] == "complete" and not entry["dirty"] for entry in served)

    primary.wait_for("complete copies", complete, TIMEOUT_S)


def nbd_io(client: Host, command: str) -> str:
    client.run("ip neigh flush all", check=True)
    done = client.run(["qemu-io", "-f", "raw", "-c", command, f"nbd://{ADDRESS}:10809"], timeout_s=TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def serial(client: Host) -> str:
    url = f"iscsi://{ADDRESS}/{IQN}/1"
    return client.run(["iscsi-inq", "-e", "1", "-c", "0x80", url], timeout_s=TIMEOUT_S, check=True).stdout


def test_a_client_finds_its_disks_at_the_other_node(lab: Lab) -> None:
    one, two, client = lab.hast1, lab.hast2, lab.client
    become_master(one)
    nbd_io(client, "write -P 0xa5 -f 1M 64k")
    first = serial(client)
    become_slave(one)
    become_master(two)
    assert "Pattern verification failed" not in nbd_io(client, "read -P 0xa5 1M 64k")
    assert serial(client) == first
    status = two.run("failover status", check=True).stdout
    assert "export nbd disk1: up" in status
    assert f"export iscsi {IQN}: up" in status
    assert "export nbd disk1: down" in one.run("failover status", check=True).stdout
    become_slave(two)


def test_a_power_cut_moves_the_exports_and_the_old_master_can_return(lab: Lab) -> None:
    one, two, client = lab.hast1, lab.hast2, lab.client
    become_master(one)
    nbd_io(client, "write -P 0x5a -f 2M 64k")
    one.power_off()
    become_master(two)
    assert "Pattern verification failed" not in nbd_io(client, "read -P 0x5a 2M 64k")
    one.power_on()
    one.run("hastd", check=True)
    assert one.run("failover slave", timeout_s=TIMEOUT_S).returncode == 0
    wait_complete(two)
    become_slave(two)
    become_master(one)
    assert "Pattern verification failed" not in nbd_io(client, "read -P 0x5a 2M 64k")
    become_slave(one)
