"""`unshare -m --propagation shared confined_attach.py DISK`: a FUSE device of a daemon with a mount namespace of its
own, as under its unit, which ends with all its workers. Prints what the loop device says that it stands on afterwards.

Needs HAST_RUN, HAST_DEV and HAST_PROGRAMS, whose socket it serves as hast-action does.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from hast.daemon import elsewhere
from hast.device.attach_fuse import FuseAttachment, clean_up_fuse
from hast.device.device_helper import read_sys

SIZE_BYTES = 16 << 20
WORKER = Path(__file__).with_name("ram_worker.py")


async def daemon(disk: str) -> None:
    """Attach, tell device and mount, die with the worker."""
    attachment = FuseAttachment("disk1", "disk1")
    await attachment.prepare()
    (descriptor,) = attachment.descriptors()
    argv = [sys.executable, str(WORKER), "fuse", str(descriptor), disk, "new", "512"]
    worker = subprocess.Popen(argv, pass_fds=[descriptor], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    worker.stdout.readline()
    await attachment.attach(SIZE_BYTES, 512, worker.pid)
    (mount,) = Path(os.environ["HAST_RUN"]).glob("*.fuse")
    print(attachment.node, mount, flush=True)
    worker.kill()
    worker.wait()


async def host(disk: str) -> None:
    with elsewhere.listen(os.environ[elsewhere.VARIABLE]) as listening:
        serving = asyncio.create_task(elsewhere.serve(listening))
        confined = ["unshare", "-m", "--propagation", "slave", sys.executable, __file__, disk, "daemon"]
        process = await asyncio.create_subprocess_exec(*confined, stdout=subprocess.PIPE)
        said, _ = await process.communicate()
        serving.cancel()
    node, mount = said.decode().split()
    print(mount, read_sys(node, "loop/backing_file"))
    os.environ.pop(elsewhere.VARIABLE)
    await clean_up_fuse(Path(mount))
    subprocess.run(["losetup", "-d", node], check=False, stderr=subprocess.DEVNULL)


asyncio.run((daemon if sys.argv[2:] else host)(sys.argv[1]))
