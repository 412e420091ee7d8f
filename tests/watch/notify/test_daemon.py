"""A real hast-notify beside a real hastd: what happens there arrives once, over failures and restarts of all."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from daemon_fixtures import MakeDaemon
from notifier import Notifier, told

from daemon import Daemon, wait_for


def have_events(hastd: Daemon, *names: str) -> None:
    hastd.role("secondary")
    hastd.order("disk1", events=list(names))
    assert hastd.role("primary")["error"] is None


def test_what_happens_arrives_once_over_a_failing_receiver_and_restarts(
    daemon: Daemon, web: Any, notifiers: list[Notifier]
) -> None:
    have_events(daemon, "frozen")
    notifier = Notifier(
        daemon, f'degraded 3600\nwebhook "{web.url}" {{ gather 0 only frozen resync-done failover-done }}'
    )
    notifiers.append(notifier)
    notifier.start()
    assert told(web) == [], "what was before its first start is not told"
    web.answers = [500, 503]
    have_events(daemon, "syncdone")
    wait_for(lambda: told(web) == ["disk1 resync-done happened"], "the message to arrive", 20)
    assert web.statuses == [500, 503, 204]
    assert notifier.log().count("was not reached") == 2
    notifier.wait_read()
    assert notifier.stop() == 0

    have_events(daemon, "syncdone", "disconnect")
    notifier.start()
    wait_for(lambda: len(told(web)) == 2, "what happened meanwhile to arrive", 20)
    notifier.stop(signal.SIGKILL)
    daemon.stop()
    daemon.order("disk1", events=[])
    daemon.start()
    notifier.start()
    run = {"verb": "master", "request": 1, "phase": "done", "started_s": 1.0, "finished_s": 2.5, "resources": ["disk1"]}
    (daemon.run_directory / "failover.state").write_text(json.dumps(run))
    wait_for(lambda: "failover-done happened" in told(web)[-1], "the fail-over to be told", 20)
    assert told(web) == ["disk1 resync-done happened"] * 2 + [" failover-done happened"]


def test_a_message_that_waits_outlives_a_kill(daemon: Daemon, web: Any, notifiers: list[Notifier]) -> None:
    web.answers = [500] * 1000
    notifier = Notifier(daemon, f'webhook "{web.url}" {{ gather 0 only resync-done }}')
    notifiers.append(notifier)
    notifier.start()
    have_events(daemon, "syncdone")
    wait_for(lambda: "resync-done" in notifier.state.read_text(), "the message to be kept", 20)
    notifier.stop(signal.SIGKILL)
    web.answers = []
    notifier.start()
    wait_for(lambda: told(web) == ["disk1 resync-done happened"], "the message to arrive", 20)


def test_a_configuration_is_read_again_and_one_with_mistakes_changes_nothing(
    daemon: Daemon, web: Any, tmp_path: Path, notifiers: list[Notifier]
) -> None:
    notifier = Notifier(daemon, f'webhook "{web.url}" {{ gather 0 only resync-done }}')
    notifiers.append(notifier)
    notifier.start()
    assert notifier.process is not None
    good = notifier.config.read_text()
    notifier.config.write_text("mail")
    notifier.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "configuration not changed" in notifier.log(), "the mistake to be told", 20)
    notifier.config.write_text(good + f'command "cat >>{tmp_path}/told" {{ gather 0 only resync-done }}\n')
    notifier.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "2 receivers of" in notifier.log(), "the new configuration", 20)
    have_events(daemon, "syncdone")
    wait_for(lambda: told(web) == ["disk1 resync-done happened"], "the webhook to be told", 20)
    wait_for(
        lambda: (tmp_path / "told").exists() and "resync-done" in (tmp_path / "told").read_text(), "the command", 20
    )
    assert notifier.stop() == 0


def test_try_tells_which_receivers_are_reached(make_daemon: MakeDaemon, web: Any) -> None:
    notifier = Notifier(make_daemon(), f'webhook "{web.url}" {{ only degraded }} command "exit 7"')
    done = subprocess.run(notifier.command("--try"), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        69,
        f"webhook {web.url}: sent\n",
        "command exit 7: exit code 7\n",
    )
    assert told(web) == [" try happened"]
    checked = subprocess.run(notifier.command("-t"), capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stdout) == (0, f"{notifier.config}: good, 2 receivers\n")
