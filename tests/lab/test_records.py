"""What the client of the lab's scenarios printed, read back."""

from __future__ import annotations

from hast.lab.records import Journal

PRINTED = "1 10.00 1\n2 10.02 1\n3 10.05 2\n4 10.07 2\n5 10."


def test_writing_goes_on_after_a_fault_with_the_first_record_over_another_connection() -> None:
    """However short the pause: a quick fail-over is one as well."""
    journal = Journal.parse(PRINTED)
    assert journal.first_over_another_connection(10.01) == 10.05
    assert journal.first_over_another_connection(10.06) is None


def test_a_line_that_is_being_written_is_not_read() -> None:
    assert [number for number, _ in Journal.parse(PRINTED).acknowledged] == [1, 2, 3, 4]


def test_a_writer_that_was_started_anew_has_another_connection() -> None:
    both = Journal.parse("1 10.00 1\n") + Journal.parse("2 11.00 1\n")
    assert both.first_over_another_connection(10.5) == 11.0
    assert len(both.acknowledged) == 2
