"""Removes a lab's loop devices and directory when the process that made the lab has ended, however it ended.

Started as `python -m hast.lab.reaper DIRECTORY` with a pipe as standard input, whose other end only the lab's process
holds. End of file is the signal; `keep` before it spares the directory.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from hast.lab import loops

RETRIES = 40


def main() -> None:
    """Wait for end of file, then clean up."""
    directory = Path(sys.argv[1])
    keep = sys.stdin.read().strip() == "keep"
    for _ in range(RETRIES):
        if not loops.detach_under(directory):
            break
        time.sleep(0.05)
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
