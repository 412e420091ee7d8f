"""A headless Chromium without a profile, driven by the DevTools protocol over two pipes (no port, no driver).

Selenium needs chromium-driver and with it a whole desktop browser, Playwright browsers of its own; what tests need of
the protocol is below.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hast.lab.processes import bound

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PROGRAM = next((found for name in NAMES if (found := shutil.which(name))), None)
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium (package chromium-headless-shell)")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
ANSWER_S = 30.0


class BrowserError(Exception):
    """The browser, or the script in it, said no."""


class Browser:
    """One process; pages come from `page`."""

    def __init__(self, home: Path, within: tuple[str, ...] = ()) -> None:
        assert PROGRAM is not None
        browser_reads, self._out = os.pipe()
        self._in, browser_writes = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (browser_reads, browser_writes)]
        argv = [
            *within,
            *bound(),
            PROGRAM,
            *OPTIONS,
            f"--user-data-dir={home}",
            "about:blank",
        ]
        nowhere = os.open(os.devnull, os.O_RDWR)
        environment = {**os.environ, "HOME": str(home)}
        if (home / "fonts.conf").exists():
            environment["FONTCONFIG_FILE"] = str(home / "fonts.conf")
        actions = [(os.POSIX_SPAWN_DUP2, ends[0], 3), (os.POSIX_SPAWN_DUP2, ends[1], 4)]
        actions += [(os.POSIX_SPAWN_DUP2, nowhere, number) for number in (0, 1, 2)]
        self.pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setpgroup=0)
        for end in (browser_reads, browser_writes, nowhere, *ends):
            os.close(end)
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._number = 0

    def page(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, width, height, dark)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result. Raises BrowserError."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + ANSWER_S
        while (answer := self._next(until)).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, until - time.monotonic()))[0]:
                raise BrowserError(f"no answer within {ANSWER_S:g} s")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise BrowserError("the browser has ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._in)
        os.close(self._out)


class Page:
    """One tab."""

    def __init__(self, browser: Browser, session: str, width: int, height: int, dark: bool) -> None:
        self.browser, self._session = browser, session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self._session, **parameters)

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise BrowserError(str(told["exceptionDetails"].get("exception", {}).get("description")))
        return told["result"].get("value")

    def text(self, selector: str = "body") -> str:
        return str(self.run(f"(document.querySelector({json.dumps(selector)})?.innerText ?? '')"))

    def wait(self, script: str, what: str, deadline_s: float = 15.0) -> None:
        until = time.monotonic() + deadline_s
        asked = f"(() => {{ try {{ return Boolean({script}); }} catch {{ return false; }} }})()"
        while not self.run(asked):
            assert time.monotonic() < until, f"{what}: not within {deadline_s} s; the page says:\n{self.text()}"
            time.sleep(0.05)

    def wait_text(self, words: str, selector: str = "body", deadline_s: float = 15.0) -> None:
        looked = f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(words)})"
        self.wait(looked, f"{words!r} in {selector}", deadline_s)

    def wait_looks(self, count: int) -> None:
        """Until the page has drawn so many pictures more."""
        self.run("state.heardMs_before = state.heardMs")
        for _ in range(count):
            self.wait("state.heardMs !== state.heardMs_before", "the next picture")
            self.run("state.heardMs_before = state.heardMs")

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key], **text)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self._call("Input.insertText", text=text)

    def close(self) -> None:
        self._call("Page.close")

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """All of the page as PNG, or what is seen of it."""
        told = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))

    def complaints(self) -> list[str]:
        """What the browser found wrong with the page: errors of scripts, and what its policy forbids."""
        self.run("1")
        found = []
        for event in self.browser.events:
            told = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and told["entry"]["source"] in ("security", "javascript"):
                found.append(str(told["entry"]["text"]))
        return found

    def asked(self) -> set[str]:
        """The addresses that were asked for."""
        self.run("1")
        sent = (each for each in self.browser.events if each.get("method") == "Network.requestWillBeSent")
        return {str(each["params"]["request"]["url"]) for each in sent}


KEYS = {"Enter": 13, "Tab": 9, "Escape": 27}


_MATCH = """<match target="pattern"><test name="family"><string>{alias}</string></test>
<edit name="family" mode="assign" binding="strong"><string>{family}</string></edit></match>"""
_ALIASES = ("system-ui", "sans", "sans-serif")


@contextlib.contextmanager
def a_browser(family: str = "", within: tuple[str, ...] = ()) -> Iterator[Browser]:
    """`family`: the font that stands for that of the desktop. `within`: a command that runs it somewhere else."""
    with TemporaryDirectory(prefix="browser") as home:
        if family:
            matches = "".join(_MATCH.format(alias=alias, family=family) for alias in _ALIASES)
            head = '<include ignore_missing="yes">/etc/fonts/fonts.conf</include>'
            (Path(home) / "fonts.conf").write_text(f"<fontconfig>{matches}{head}</fontconfig>")
        made = Browser(Path(home), within)
        try:
            yield made
        finally:
            made.close()
