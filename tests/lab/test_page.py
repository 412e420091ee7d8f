"""The page of a lab host in a browser while its cable is pulled, and while the other host loses its power."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, a_browser, needs_browser

from hast.lab import Lab, one_disk

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.slow, needs_browser]

STATUS = "document.querySelector('tr[data-resource=disk1]').dataset.status"
PICTURES = os.environ.get("HAST_PICTURES")
"""A directory where what was seen is left, to be looked at."""


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(configuration=one_disk.configuration("timeout 3"), disk_size_bytes=256 << 20) as lab:
        one_disk.trust(lab)
        one_disk.bring_up(lab)
        lab.hast1.spawn("hast-monitor")
        yield lab


@pytest.fixture
def page(lab: Lab) -> Iterator[Page]:
    """In a browser on the host itself, since the page is there for nobody else."""
    pid = lab.hast1.processes("hastd")[0].pid
    with a_browser(within=("nsenter", f"--net=/proc/{pid}/ns/net", "--")) as browser:
        made = browser.page()
        ask = "python3 -c \"import socket; socket.create_connection(('127.0.0.1', 9457), 1)\""
        lab.hast1.wait_for("hast-monitor", lambda: lab.hast1.run(ask).returncode == 0, 20)
        made.open("http://127.0.0.1:9457/")
        made.wait(f"{STATUS} === 'complete'", "a healthy pair")
        yield made


def keep(page: Page, name: str) -> None:
    if PICTURES is not None:
        page.picture(Path(PICTURES) / f"lab-{name}.png")


def write(lab: Lab, mib: int) -> None:
    order = f"dd if=/dev/urandom of=/dev/hast/disk1 bs=1M count={mib} oflag=direct conv=notrunc"
    lab.hast1.run(order, check=True, timeout_s=60)


def test_a_pulled_cable_and_the_copy_that_follows_are_seen(lab: Lab, page: Page) -> None:
    write(lab, 64)
    keep(page, "healthy")
    lab.hast1.run("hastctl sync-rate 8M disk1", check=True)
    lab.hast1.cable("repl").pull()
    page.wait(f"{STATUS} === 'degraded'", "the pulled cable", 30)
    page.wait_text("not known", "tr[data-resource=disk1]", 30)
    write(lab, 96)
    page.wait("document.querySelector('[data-code=degraded] time')", "since when")
    keep(page, "degraded")
    lab.hast1.cable("repl").plug()
    page.wait(f"{STATUS} === 'synchronizing'", "the copy", 60)
    page.wait("Number(document.querySelector('[role=progressbar]').ariaValueNow) > 20", "how far it is", 60)
    keep(page, "resync")
    page.wait(f"{STATUS} === 'complete'", "the end of it", 60)
    page.wait_text("Both copies of every resource are equal", "#headline")
    assert page.complaints() == []


def test_the_other_host_without_power_is_seen(lab: Lab, page: Page) -> None:
    lab.hast2.power_off()
    page.wait(f"{STATUS} === 'degraded'", "the loss", 40)
    page.wait_text("The other node does not answer", "#problems", 40)
    page.wait("document.querySelectorAll('#nodes .node')[1].dataset.known === 'false'", "a node that is not known", 30)
    assert "hast2" in page.text("#pair"), "it keeps its name"
    keep(page, "power")
