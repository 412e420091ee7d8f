"""What a server's processes take."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.processes import cpu_s

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
