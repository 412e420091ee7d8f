"""The page in a real browser: what it shows of two real hastd, and of nodes that lie. No root; needs a Chromium."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from browser import Browser, Page, a_browser, needs_browser
from daemon_pair import Pair, io, needs_qemu_io, problems
from middle import Middle
from page_server import PageServer
from pictures import healthy
from secure_pair import configure, keygen

from daemon import DIES_WITH_THE_TESTS, Daemon, free_port, wait_for

pytestmark = [needs_browser, pytest.mark.xdist_group("browser")]

HOSTILE = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as made:
        yield made


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    browser.events.clear()
    made = browser.page()
    yield made
    made.close()


class Monitor:
    """hast-monitor as a process; started again on the same port."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon, self.port = daemon, free_port()
        self.log_path = daemon.directory / "monitor.log"
        self.start()

    def start(self) -> None:
        command = [*DIES_WITH_THE_TESTS, sys.executable, "-m", "hast.cli.hast_monitor", "-l", f"127.0.0.1:{self.port}"]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, env=self.daemon.environment, stdout=log, stderr=log)
        wait_for(lambda: "Serving on" in self.log_path.read_text(), "the monitor")

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(15) == 0
        assert "Traceback" not in self.log_path.read_text(), self.log_path.read_text()


@pytest.fixture(scope="module")
def cable() -> Iterator[tuple[Pair, Middle]]:
    """Two real hastd with keys and what lies between them; each test leaves them in step."""
    with TemporaryDirectory(prefix="hd") as directory:
        Path(directory).chmod(0o711)
        one, two = (Daemon(Path(directory) / name, fake=False) for name in ("n0", "n1"))
        pair = Pair(one, two)
        try:
            for daemon in pair.both:
                daemon.environment_more["HAST_RECONNECT_S"] = "1"
            first, second = keygen(one), keygen(two)
            middle = Middle(two.port)
            configure(one, middle.port, [first], [second])
            configure(two, one.port, [second], [first])
            pair.bring_up()
            yield pair, middle
            middle.close()
            pair.check_logs()
        finally:
            for daemon in pair.both:
                daemon.stop()
                daemon.end_orphans()


STATUS = "document.querySelector('tr[data-resource=disk1]').dataset.status"


@needs_qemu_io
def test_the_page_is_true_while_the_cable_is_pulled_and_a_copy_made_and_lives_through_restarts(
    cable: tuple[Pair, Middle], page: Page
) -> None:
    pair, middle = cable
    monitor = Monitor(pair.one)
    page.open(f"http://127.0.0.1:{monitor.port}/")
    page.wait_text("Both copies of every resource are equal", "#headline")
    page.wait(f"{STATUS} === 'complete'", "the resource")
    assert "secondary" in page.text("tr[data-resource=disk1]")

    assert pair.one.hastctl("sync-rate", "1M", "disk1").returncode == 0
    middle.is_pulled = True
    page.wait(f"{STATUS} === 'degraded'", "the pulled cable")
    page.wait_text("Degraded, one copy counts", "#problems")
    page.wait_text("not known", "tr[data-resource=disk1]")
    io(pair.one, "write -P 7 0 6M", "flush")

    middle.is_pulled = False
    page.wait(f"{STATUS} === 'synchronizing'", "the copy that is made")
    page.wait("Number(document.querySelector('[role=progressbar]').ariaValueNow) < 100", "how far it is")
    assert pair.one.hastctl("sync-rate", "0", "disk1").returncode == 0
    page.wait(f"{STATUS} === 'complete'", "the end of it")
    page.wait_text("syncdone", "#timeline")

    pair.one.kill()
    page.wait("document.body.dataset.live === 'stale'", "hastd's death")
    assert "stale since" in page.text("#stale")
    assert page.run(STATUS) == "complete", "what was known last stays"
    pair.one.start()
    page.wait("document.body.dataset.live === 'live'", "hastd again")

    monitor.stop()
    page.wait("document.body.dataset.live === 'lost'", "the monitor's end")
    page.wait_text("stale since", "#stale")
    monitor.start()
    page.wait(f"document.body.dataset.live === 'live' && {STATUS} === 'complete'", "the monitor again")
    assert page.complaints() == []
    assert {url.split("/")[2] for url in page.asked()} == {f"127.0.0.1:{monitor.port}"}
    monitor.stop()


class Orders:
    """hast-order as a process, for the hastd of one node."""

    def __init__(self, daemon: Daemon) -> None:
        self.log_path = daemon.directory / "order.log"
        program = [*DIES_WITH_THE_TESTS, sys.executable, "-m", "hast.cli.hast_order"]
        program += ["--token-file", str(daemon.directory / "order.token")]
        made = subprocess.run([*program, "--make-token"], capture_output=True, text=True, timeout=30, check=True)
        self.token = made.stdout.strip()
        socket_path = daemon.run_directory / "order.sock"
        command = [*program, "-c", str(daemon.config), "--listen", str(socket_path)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, env=daemon.environment, stdout=log, stderr=log)
        wait_for(socket_path.exists, "hast-order")

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(15) == 0
        assert "Traceback" not in self.log_path.read_text(), self.log_path.read_text()


def carry_out(page: Page, title: str) -> None:
    """Open the plan, and its dialog, by keyboard."""
    plan = f"[...document.querySelectorAll('.plan')].find((each) => each.dataset.key.endsWith({title!r}))"
    page.wait(f"!document.getElementById('order').open && {plan}.querySelector('button.go:enabled')", title)
    page.run(f"{plan}.open = true; {plan}.querySelector('button.go').focus()")
    page.press("Enter")
    page.wait("document.getElementById('order').open", "the dialog")


def test_a_plan_is_carried_out_from_the_page_with_the_token_and_not_without(
    cable: tuple[Pair, Middle], page: Page
) -> None:
    pair, _middle = cable
    monitor = Monitor(pair.one)
    page.open(f"http://127.0.0.1:{monitor.port}/")
    page.wait(f"{STATUS} === 'complete' && orders.askedMs", "the page")
    assert page.run("document.querySelectorAll('button.go:not(#order-go)').length") == 0, "nothing can be ordered"
    orders = Orders(pair.one)
    page.run("orders.askedMs = 0")
    page.wait("document.querySelectorAll('.plan button.go').length", "what can be ordered", 30)

    carry_out(page, "out of service")
    assert "hastctl detach disk1" in page.text("#order")
    assert page.run("document.activeElement.id") == "order-token"
    page.resize(320, 640)
    box = page.run("document.getElementById('order').getBoundingClientRect().toJSON()")
    assert (box["left"] >= 0, box["right"] <= 320, box["bottom"] <= 640) == (True, True, True), box
    page.resize(1280, 900)
    page.type("wrong")
    page.press("Enter")
    page.wait_text("The token is wrong.", "#order-state")
    page.press("Escape")
    page.wait("!document.getElementById('order').open", "the dialog to close")
    assert pair.one.status()["problems"] == []

    carry_out(page, "out of service")
    page.run("orders.plan = { ...orders.plan, fingerprint: 'of another one' }; drawPlans(state.view)")
    assert "has changed since" in page.text("#order-state")
    assert page.run("document.getElementById('order-go').disabled")
    page.press("Escape")

    carry_out(page, "out of service")
    page.type(orders.token)
    page.press("Enter")
    page.wait_text("Done", "#order-state", 30)
    lines = page.text("#order-lines")
    assert "make the other node's copy the one to trust" in lines
    assert "out of service" in problems(pair.one, "disk")
    page.press("Escape")
    page.wait_text("A disk failed", "#problems")

    carry_out(page, "into service again")
    assert "is known to this page" in page.text("#order-fields")
    page.run("document.getElementById('order-go').focus()")
    page.press("Enter")
    page.wait_text("Done", "#order-state", 30)
    pair.wait_complete()
    assert page.run("JSON.stringify([document.cookie, localStorage.length, sessionStorage.length])") == '["",0,0]'
    assert orders.token not in " ".join(page.asked()) + orders.log_path.read_text() + monitor.log_path.read_text()
    assert page.complaints() == []
    page.open(f"http://127.0.0.1:{monitor.port}/")
    page.wait(f"{STATUS} === 'complete' && orders.token === ''", "a page that has forgotten the token")
    orders.stop()
    monitor.stop()


def lying() -> dict[str, Any]:
    """Every text is HTML that would run."""
    reply = healthy()
    for node in (reply["node"], reply["peers"][0]["node"]):
        node["host"] = node["release"] = HOSTILE
        status = node["resources"][0]
        status |= {
            "name": HOSTILE,
            "replication": HOSTILE,
            "status": "degraded",
            "role": HOSTILE,
            "transition": HOSTILE,
        }
        status |= {"not_connected": {"since": 1.0, "reason": HOSTILE}, "problems": [{"kind": HOSTILE, "text": HOSTILE}]}
        status |= {"history": [{"time": 5.0, "event": HOSTILE, "resource": HOSTILE, "text": HOSTILE, "level": HOSTILE}]}
        status |= {"split_brain": {"reason": HOSTILE, "together": [HOSTILE], "since": 1}, "sync": {"total_bytes": 9}}
        node["carp"]["vhids"][0] |= {"interface": HOSTILE, "state": HOSTILE, "addresses": [HOSTILE], "link": HOSTILE}
        node["failover"] = {"verb": HOSTILE, "phase": HOSTILE, "failures": {HOSTILE: HOSTILE}}
    reply["peers"][0]["resources"] = [HOSTILE]
    return reply


def test_whatever_nodes_call_themselves_enters_the_page_as_text(page: Page) -> None:
    server = PageServer(lying).start()
    page.open(server.url)
    page.wait("document.body.dataset.live === 'live'", "the page")
    assert page.text("#resources th[scope=row]") == HOSTILE
    for selector in ("#problems", "#nodes", "#resources", "#timeline", "#plans", "#pair"):
        assert HOSTILE in page.text(selector), selector
    assert page.run("document.querySelectorAll('img, main script, iframe').length") == 0
    assert "owned" not in str(page.run("document.title")).split("HAST")[0]
    assert page.complaints() == []
    server.stop()


def many() -> dict[str, Any]:
    reply = healthy()
    for node in (reply["node"], reply["peers"][0]["node"]):
        one = node["resources"][0] | {"status": "degraded", "not_connected": {"since": 5.0, "reason": "x" * 300}}
        node["resources"] = [copy.deepcopy(one) | {"name": f"disk-with-a-long-name-{n}"} for n in range(16)]
    reply["peers"][0]["resources"] = [each["name"] for each in reply["node"]["resources"]]
    return reply


def test_it_can_be_read_on_a_phone_and_used_by_keyboard_and_does_not_speak_by_colour_alone(page: Page) -> None:
    server = PageServer(many).start()
    page.open(server.url)
    page.wait("document.body.dataset.live === 'live'", "the page")
    for width in (320, 390, 1280):
        page.resize(width, 800)
        assert page.run("document.documentElement.scrollWidth") <= width
    signs = "[...document.querySelectorAll('.badge[data-level=warning]')].every((each) => each.textContent.trim()"
    signs += " && getComputedStyle(each, '::before').content.includes('▲'))"
    assert page.run(signs)
    page.run("document.querySelector('#problems summary').focus()")
    page.press("Enter")
    page.wait("document.querySelector('#problems details').open", "the opened part")
    page.press("Tab")
    focused = page.run("document.activeElement.tagName + document.activeElement.innerText")
    page.wait_looks(1)
    assert page.run("document.activeElement.tagName + document.activeElement.innerText") == focused
    assert page.run("document.querySelector('#problems details').open"), "a look does not close what is being read"
    server.stop()
