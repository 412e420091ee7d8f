"""Sites to drill: the article's, and the same with a mistake planted in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hast.drill.decisions.site import Site
from hast.drill.reading import read_site

ARTICLE = {
    "hast.conf": "".join(
        f"resource disk{n} {{ on hast1 {{ local /dev/ad{n} remote hast2 }}\n"
        f"    on hast2 {{ local /dev/ad{n} remote hast1 }} }}\n"
        for n in (1, 2, 3)
    ),
    "carp.conf": "interface re0\nresource disk1 resource disk2 resource disk3\n"
    'on hast1 { ifconfig carp0 "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 0" }\n'
    'on hast2 { ifconfig carp0 "inet 10.10.10.180 netmask 255.255.255.0 vhid 1 pass mypassword advskew 100" }\n',
    "devd.conf": "".join(
        f'notify 30 {{ match "system" "IFNET"; match "subsystem" "carp0"; match "type" "{kind}"; '
        f'action "/usr/local/bin/failover {verb}"; }};\n'
        for kind, verb in (("LINK_UP", "master"), ("LINK_DOWN", "slave"))
    ),
    "failover.conf": "resources disk1 disk2 disk3\npool zhast { kill 5 }\n",
}


def changed(files: Mapping[str, str], name: str, old: str, new: str) -> dict[str, str]:
    """The same with one text replaced, everywhere in one file."""
    assert old in files[name]
    return {**files, name: files[name].replace(old, new)}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Into a folder; returns the path of hast.conf."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return folder / "hast.conf"


def site(folder: Path, files: Mapping[str, str] = ARTICLE, peer: Mapping[str, str] | None = None) -> Site:
    """As hast1 reads it; `peer`: the other node's own files."""
    there = str(write(folder / "peer", peer).parent) if peer is not None else None
    return read_site(str(write(folder / "own", files)), "hast1", there)
