"""When the keys of a TLS session have made so many records that the next ones are due.

RFC 8446 (5.5): under one key of AES-GCM 2^24.5 records of full size leave an attacker a chance of 2^-57 to tell what is
sent from noise. Both directions count for themselves, since each has a key of its own. Below that by what may still be
under way when the change begins. The other ciphers have more margin and are treated alike.

In user space, where both ends know of it, others follow on the same connection. The kernel's cannot be changed (before
Linux 6.14), so another connection follows.
"""

from __future__ import annotations

MAX_RECORDS = 1 << 24
"""Full ones are 256 GiB."""
CONNECTION_IS_SPENT = "its keys are used up"
"""Why a connection is ended to be followed by another at once."""


def are_used_up(sealed_records: int, opened_records: int, most: int = MAX_RECORDS) -> bool:
    """Whether the next keys are due, by what was made and what was opened with these."""
    return max(sealed_records, opened_records) >= most


def have_to_end(sealed_records: int, most: int = MAX_RECORDS) -> bool:
    """Whether the secondary ends a connection whose keys cannot be changed. The primary, which makes the next one at
    once, is given the time to do so first; still below 2^24.5."""
    return sealed_records >= most * 5 // 4
