"""`python -m hast.lab.pauses PATH OFFSET_BYTES write|read [STEP_S]`: one block past the page cache, every STEP_S.

`write` also reads the block back and compares. Prints each time that took longer than PAUSE_S: the moment (monotonic
seconds) and how long it took. Ends with 1 and the reason at an error.
"""

from __future__ import annotations

import mmap
import os
import sys
import time

BLOCK_BYTES = 4096
PAUSE_S = 0.01
STEP_S = 0.002


def main(path: str, offset_bytes: int, how: str, step_s: float = STEP_S) -> int:
    """Until it is killed, or an error."""
    block = mmap.mmap(-1, BLOCK_BYTES)
    writing = how == "write"
    descriptor = os.open(path, (os.O_RDWR if writing else os.O_RDONLY) | os.O_DIRECT)
    number = 0
    while True:
        number += 1
        block[:8] = number.to_bytes(8, "little")
        began_s = time.monotonic()
        try:
            if writing:
                os.pwritev(descriptor, [block], offset_bytes)
            os.preadv(descriptor, [block], offset_bytes)
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)
            return 1
        took_s = time.monotonic() - began_s
        if writing and int.from_bytes(block[:8], "little") != number:
            print(f"{path}: block {number} reads back as another", file=sys.stderr)
            return 1
        if took_s > PAUSE_S:
            print(f"{began_s:.3f} {took_s:.4f}", flush=True)
        time.sleep(step_s)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(float, sys.argv[4:])))
