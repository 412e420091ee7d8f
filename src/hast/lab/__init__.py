"""Two (or more) hosts on one machine: networks, cables, disks, faults; and the demo that runs on them.

For tests, demonstrations and drills only: no other room but `drill` may import it. Needs root.
"""

from __future__ import annotations

from hast.lab.host import Host, LabError, Running
from hast.lab.laboratory import Lab

__all__ = ["Host", "Lab", "LabError", "Running"]
