"""When the keys of a TLS session have made so many records that the next ones are due.

RFC 8446 (5.5): under one key of AES-GCM 2^24.5 records of full size leave an attacker a chance of 2^-57 to tell what is
sent from noise. Both directions count for themselves, since each has a key of its own. Below that by what may still be
under way when the change begins. The other ciphers have more margin and are treated alike.
"""

from __future__ import annotations

MAX_RECORDS = 1 << 24
"""Full ones are 256 GiB."""


def are_used_up(sealed_records: int, opened_records: int, most: int = MAX_RECORDS) -> bool:
    """Whether the next keys are due, by what was made and what was opened with these."""
    return max(sealed_records, opened_records) >= most
