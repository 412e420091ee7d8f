"""`make screenshots`: pictures of the page in docs/images, in states that are made up (sights.py). Needs a Chromium."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import web
from browser import PROGRAM, Browser, Page, a_browser
from sights import SIGHTS, Sight, SightSource

from hast.watch.monitor.server import listen
from hast.watch.web.guard import put_headers
from hast.watch.web.routes import add_routes

FONT = "Liberation Sans"
STEP_S = 4.0
HISTORY_S = 600.0
SHOTS = [(name, 1280, name == "split-brain") for name in SIGHTS] + [("phone", 390, False)]


async def show(name: str) -> tuple[web.AppRunner, int]:
    """The page, as if somebody had looked for ten minutes."""
    now_s = time.time()
    sight = Sight(now_s, SIGHTS[name])
    application = web.Application()
    application.on_response_prepare.append(put_headers)
    hub = add_routes(application, SightSource(sight, time.time))  # type: ignore[arg-type]
    at_s = now_s - HISTORY_S
    hub.names.put_into(sight.at(at_s))
    while at_s < now_s:
        hub.history.add(sight.at(at_s), at_s)
        at_s += STEP_S
    return await listen(application, "127.0.0.1", 0)


ASK = "askForOrders = () => {}; Object.assign(orders, { there: true }); drawPlans(state.view);"
PLAN = "const plan = document.querySelector('.plan:has(button.go:enabled)'); plan.open = true;"


def shoot_order(browser: Browser, port: int, path: Path) -> None:
    """The question before a plan is carried out, as it is while hast-order is there."""
    page = browser.page(1000, 640)
    page.open(f"http://127.0.0.1:{port}/")
    page.wait("document.body.dataset.live === 'live'", "the page")
    time.sleep(0.6)
    page.run(f"{{ {ASK} {PLAN} plan.querySelector('button.go').click(); }}")
    page.wait("document.getElementById('order').open", "the dialog")
    time.sleep(0.3)
    keep(page, path, whole=False)


def shoot(browser: Browser, port: int, path: Path, width: int, dark: bool) -> None:
    page = browser.page(width, 700, dark=dark)
    page.open(f"http://127.0.0.1:{port}/")
    page.wait("document.body.dataset.live === 'live'", "the page")
    time.sleep(0.6)
    if path.stem.endswith("split-brain"):
        page.run("document.querySelector('.plan').open = true")
    page.resize(width, int(page.run("Math.ceil(document.documentElement.getBoundingClientRect().height)")))
    time.sleep(0.3)
    keep(page, path)


def keep(page: Page, path: Path, *, whole: bool = True) -> None:
    page.picture(path, whole=whole)
    if smaller := shutil.which("pngquant"):
        subprocess.run([smaller, "--force", "--skip-if-larger", "--output", path, "128", path], check=True)
    complaints = page.complaints()
    if complaints:
        sys.exit(f"{path.stem}: {complaints}")


async def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with a_browser(FONT) as browser:
        for name, width, dark in SHOTS:
            runner, port = await show("resync" if name == "phone" else name)
            await asyncio.to_thread(shoot, browser, port, folder / f"page-{name}.png", width, dark)
            await runner.cleanup()
            print(folder / f"page-{name}.png")
        runner, port = await show("healthy")
        await asyncio.to_thread(shoot_order, browser, port, folder / "page-order.png")
        await runner.cleanup()
        print(folder / "page-order.png")


if __name__ == "__main__":
    if PROGRAM is None:
        sys.exit("no Chromium: apt install chromium-headless-shell")
    asyncio.run(main(Path(sys.argv[1])))
