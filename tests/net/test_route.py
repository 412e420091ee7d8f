"""The way to an address, as the kernel tells it, and whether it is a tunnel."""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from hast.net.route import device_to, is_wireguard


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9"])
def test_this_host_is_reached_over_its_loopback_device(address: str) -> None:
    assert device_to(ip_address(address)) == "lo"


def test_an_address_that_is_reached_by_nothing_is_an_error() -> None:
    with pytest.raises(OSError):
        device_to(IPv4Address("255.255.255.255"), 1 << 20)
    with pytest.raises(OSError):
        device_to(IPv6Address("fe80::1"), 1 << 20)


def test_a_tunnel_is_known_by_what_the_kernel_calls_it(tmp_path: Path) -> None:
    for device, text in (("wg0", "DEVTYPE=wireguard\nINTERFACE=wg0\n"), ("wg1", "INTERFACE=wg1\n")):
        (tmp_path / device).mkdir()
        (tmp_path / device / "uevent").write_text(text)
    assert is_wireguard("wg0", tmp_path)
    assert not is_wireguard("wg1", tmp_path)
    assert not is_wireguard("gone", tmp_path)


def test_a_tunnel_in_user_space_is_known_by_the_socket_that_takes_its_orders(tmp_path: Path) -> None:
    for device in ("wg0", "tun0"):
        (tmp_path / device).mkdir()
        (tmp_path / device / "uevent").write_text(f"INTERFACE={device}\n")
        (tmp_path / device / "tun_flags").write_text("0x1001\n")
    with socket.socket(socket.AF_UNIX) as orders:
        orders.bind(str(tmp_path / "wg0.sock"))
        (tmp_path / "tun0.sock").touch()
        assert is_wireguard("wg0", tmp_path, tmp_path) == (os.geteuid() == 0)
        assert not is_wireguard("tun0", tmp_path, tmp_path)
