"""When a disk counts as hung: the oldest operation decides, and only what a thread has begun."""

from __future__ import annotations

from hast.worker.disk.decisions.patience import DOUBTFUL_AFTER_S, Hang, Patience


def test_a_disk_that_answers_in_time_is_not_hung_however_much_it_is_asked() -> None:
    patience = Patience(20.0)
    for number in range(100):
        patience.begin(number, "WRITE at 0", float(number))
        patience.end(number - 10)
    assert patience.judge(105.0) is None


def test_the_oldest_operation_is_named_with_its_age() -> None:
    patience = Patience(20.0)
    patience.begin(1, "flush", 100.0)
    patience.begin(2, "READ at 512", 110.0)
    assert patience.judge(119.9) is None
    assert patience.judge(120.0) == Hang("flush", 100.0, 20.0)
    patience.end(1)
    assert patience.judge(120.0) is None


def test_no_limit_means_any_age() -> None:
    patience = Patience(0.0)
    patience.begin(1, "flush", 0.0)
    assert patience.judge(1e9) is None


def test_a_changed_limit_counts_for_what_is_out_already() -> None:
    patience = Patience(0.0)
    patience.begin(1, "flush", 0.0)
    patience.limit_s = 3.0
    assert patience.judge(4.0) == Hang("flush", 0.0, 4.0)


def test_the_disk_is_doubtful_while_an_operation_is_out_for_long() -> None:
    patience = Patience(20.0)
    assert not patience.is_doubtful(0.0)
    patience.begin(1, "flush", 0.0)
    assert not patience.is_doubtful(DOUBTFUL_AFTER_S)
    assert patience.is_doubtful(DOUBTFUL_AFTER_S + 0.01)
    patience.end(1)
    assert not patience.is_doubtful(10.0)


def test_a_slow_flush_of_a_disk_that_goes_on_completing_is_no_hang_for_a_while() -> None:
    patience = Patience(20.0)
    patience.begin(1, "flush", 0.0)
    for second in range(1, 100):
        patience.answered(float(second))
        assert patience.judge(second + 0.5) is None
    assert patience.judge(120.0) == Hang("flush", 0.0, 120.0)


def test_silence_counts_from_the_last_answer() -> None:
    patience = Patience(20.0)
    patience.begin(1, "flush", 0.0)
    patience.answered(15.0)
    assert patience.judge(34.9) is None
    assert patience.judge(35.0) == Hang("flush", 0.0, 35.0)
