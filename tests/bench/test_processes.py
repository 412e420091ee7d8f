"""What a server's processes take."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.processes import busy_share, cpu_s, family, wakeups

BURN = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', {!r}])"
WORK = """
import time
end_s = time.process_time() + 0.3
while time.process_time() < end_s: pass
print("done", flush=True)
input()
"""


def test_the_time_of_a_process_that_another_started_counts_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURN.format(WORK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        used_s = cpu_s([process.pid])
        own_s = cpu_s([os.getpid()])
        process.communicate("\n", timeout=20)
    assert used_s >= 0.29
    assert own_s >= used_s
    assert cpu_s([]) == 0


def test_who_works_makes_the_machine_busy() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            assert 0 < busy_share(0.3) <= 1
        finally:
            process.kill()


def test_a_process_that_sleeps_and_wakes_is_counted_and_one_that_is_gone_is_not() -> None:
    script = "import time\nfor _ in range(20): time.sleep(0.001)\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert wakeups(process.pid) >= 20
        assert process.pid in family([os.getpid()])
        process.communicate(b"\n", timeout=20)
    assert wakeups(process.pid) == 0
