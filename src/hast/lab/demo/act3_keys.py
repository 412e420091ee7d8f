"""Act 3: the two hosts learn each other's key; from then on nobody else gets in, and the wire is encrypted."""

from __future__ import annotations

import base64

from hast.format import frame
from hast.format.constants import OUR_FEATURES, PROTOCOL_VERSION
from hast.format.handshake import Hello
from hast.lab import Lab
from hast.lab.demo.act1_pair import show_status
from hast.lab.demo.pools import Pool
from hast.lab.demo.stage import Stage

TITLE = "Act 3: keys for both hosts, and strangers"


def stranger() -> str:
    """The first message of a primary, in plain text, and how many bytes come back."""
    fields = Hello("disk1", PROTOCOL_VERSION, int(OUR_FEATURES)).fields()
    message = base64.b64encode(b"".join(bytes(part) for part in frame.encode(1, fields))).decode()
    speak = f"exec 3<>/dev/tcp/hast2/8457; echo {message} | base64 -d >&3; timeout 3 cat <&3 | wc -c"
    return f"bash -c '{speak}'"


def play(stage: Stage, lab: Lab, pool: Pool) -> None:
    """Keys, the file with both fingerprints, reload, what a stranger gets."""
    del pool
    pair = (lab.hast1, lab.hast2)
    stage.say("a key on each host, and by which fingerprint it is known")
    lines = ["tls required"]
    for host in pair:
        stage.run(host, "hastctl keygen")
        fingerprint = host.run("hastctl keygen --show", check=True).stdout.split()[0]
        lines.append(f"on {host.name} {{ fingerprint {fingerprint} }}")
    stage.say("both fingerprints into /etc/hast.conf, the same on both")
    head = "\n".join(lines)
    for host in pair:
        stage.run(host, f"cat >> /etc/hast.conf <<'END'\n{head}\nEND")
    stage.run(lab.hast1, "hastctl trust disk1", "matches")
    for host in pair:
        stage.run(host, "hastctl check && hastctl reload")
    show_status(stage, lab, "hast1")
    stage.run(lab.hast1, "hastctl list disk1 | grep tls", "tls: on")
    stage.say("somebody on hast1, with its address and without its key, speaks as the primary: not a byte comes back")
    stage.run(lab.hast1, stranger(), r"^0$")
    show_status(stage, lab, "hast1")
