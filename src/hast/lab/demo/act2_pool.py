"""Act 2: a pool over the three devices, and files in it."""

from __future__ import annotations

from hast.lab import Lab
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Actor, Stage

TITLE = "Act 2: the pool zhast, and files in it"


def write_files(stage: Stage, host: Actor, folder: str) -> None:
    """Write files of several sizes with their checksums into /zhast/FOLDER, down to the disks."""
    stage.run(host, f"mkdir /zhast/{folder} && cp -r /usr/share/common-licenses /zhast/{folder}/texts")
    stage.run(host, f"dd if=/dev/urandom of=/zhast/{folder}/database bs=1M count=32 conv=fsync status=none")
    stage.run(
        host,
        f"cd /zhast/{folder} && find . -type f ! -name SHA256SUMS -exec sha256sum {{}} + > SHA256SUMS"
        " && sync SHA256SUMS && wc -l SHA256SUMS",
    )


def verify_files(stage: Stage, host: Actor, folder: str) -> None:
    """Compare every file with its checksum."""
    stage.run(
        host, f"cd /zhast/{folder} && sha256sum --check --quiet SHA256SUMS && echo all files are as written", "^all"
    )


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Create, look, write."""
    pool.create(stage, lab.hast1)
    pool.status(stage, lab.hast1)
    stage.say("files, with checksums")
    write_files(stage, lab.hast1, "from-hast1")
    stage.run(lab.hast1, "df -h /zhast; ls /zhast/from-hast1")
    stage.run(lab.hast1, "hastctl status --table")
