"""`hastctl drill`: this site's configuration, rehearsed on two throw-away hosts inside this machine.

Within the room: `decisions/` (no I/O) holds two views of a site, what a rehearsal consists of, the translation of the
site into one that fits the lab, and judges what was seen; `pair.py` builds that in the lab; `faults.py` does what can
happen to it; `rehearsal.py` carries steps out and measures; `simulated.py` asks the simulator; `report/` shows it.
Nothing here may touch a disk, an address or a route of the machine.
"""
