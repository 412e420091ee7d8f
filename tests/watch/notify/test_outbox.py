"""When messages go out: gathered, limited, tried again, given up and counted; and in which form."""

from __future__ import annotations

import json

from hast.config.notify_model import Kind, Receiver, Topic
from hast.watch.notify.decisions.message import Message, State, from_record, make
from hast.watch.notify.decisions.outbox import MAX_WAITING, Outbox
from hast.watch.notify.forms import MAX_SUBJECT_CHARACTERS, body, document, environment, subject

T = 1_700_000_000.0


def message(number: int = 0, topic: Topic = Topic.RESYNC_DONE) -> Message:
    return make(topic, State.HAPPENED, f"disk{number}", "text", T)


def outbox(gather_s: int = 5, limit_per_hour: int = 20, retry_s: int = 3600) -> Outbox:
    return Outbox(Receiver(Kind.MAIL, "root", gather_s=gather_s, limit_per_hour=limit_per_hour, retry_s=retry_s))


def test_what_comes_shortly_after_goes_with_the_first() -> None:
    box = outbox()
    assert box.due_s(T) is None
    box.add(T, message(1))
    box.add(T + 4, message(2))
    assert box.due_s(T + 4) == 1
    assert box.due_s(T + 5) == 0
    batch, lost = box.batch()
    assert ([each.resource for each in batch], lost) == (["disk1", "disk2"], 0)
    box.sent(T + 5, batch, lost)
    assert box.due_s(T + 5) is None


def test_beyond_the_limit_messages_wait_and_go_together() -> None:
    box = outbox(gather_s=0, limit_per_hour=2)
    for second in range(2):
        box.add(T + second, message(second))
        box.sent(T + second, *box.batch())
    for second in range(2, 30):
        box.add(T + second, message(second))
    assert box.due_s(T + 30) == 3600 - 30
    assert box.due_s(T + 3600) == 0
    assert len(box.batch()[0]) == 28


def test_a_failure_is_followed_by_longer_and_longer_pauses_and_a_success_ends_them() -> None:
    box = outbox(gather_s=0)
    box.add(T, message())
    pauses = []
    now = T
    for _ in range(11):
        assert box.failed(now) == []
        pauses.append(box.due_s(now))
        now += 1
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600]
    box.sent(now, *box.batch())
    box.add(now, message())
    assert box.due_s(now) == 0


def test_what_is_too_old_is_given_up_and_the_next_that_arrives_says_so() -> None:
    box = outbox(retry_s=60)
    box.add(T, message(1))
    box.add(T + 50, message(2))
    assert [each.resource for each in box.failed(T + 61)] == ["disk1"]
    batch, lost = box.batch()
    assert ([each.resource for each in batch], lost) == (["disk2"], 1)
    box.sent(T + 70, batch, lost)
    box.add(T + 80, message(3))
    assert box.batch()[1] == 0


def test_too_many_messages_push_the_oldest_out() -> None:
    box = outbox()
    for number in range(MAX_WAITING + 3):
        box.add(T, message(number))
    batch, lost = box.batch()
    assert (len(box), lost, batch[0].resource) == (MAX_WAITING, 3, "disk3")


def test_what_comes_while_a_batch_is_sent_stays() -> None:
    box = outbox(gather_s=0)
    box.add(T, message(1))
    batch, lost = box.batch()
    box.add(T + 1, message(2))
    box.sent(T + 2, batch, lost)
    assert [each.resource for each in box.batch()[0]] == ["disk2"]


def test_an_outbox_keeps_only_what_its_receiver_wants() -> None:
    box = Outbox(Receiver(Kind.MAIL, "root", only=frozenset({Topic.DEGRADED})))
    box.add(T, message())
    assert len(box) == 0


def test_what_waits_and_the_limit_outlive_a_restart() -> None:
    box = outbox(gather_s=0, limit_per_hour=1)
    box.add(T, message(1))
    box.sent(T, *box.batch())
    box.add(T + 1, message(2))
    after = outbox(gather_s=0, limit_per_hour=1)
    after.restore(json.loads(json.dumps(box.record())))
    assert after.due_s(T + 10) == 3590
    assert after.batch() == box.batch()


def test_a_clock_set_back_holds_nothing_up_for_long() -> None:
    box = outbox(gather_s=0, limit_per_hour=1)
    box.add(T, message())
    box.sent(T, *box.batch())
    box.add(T, message())
    assert box.due_s(T - 90000) == 0
    box.failed(T - 89000)
    assert box.due_s(T - 180000) == 600
    assert box.due_s(T - 180000 + 600) == 0


def test_a_batch_leads_with_the_worst() -> None:
    batch = [message(1), make(Topic.SPLIT_BRAIN, State.BEGUN, "disk2", "Both wrote.", T)]
    assert subject(batch, "east") == "hast on east: disk2: split-brain: Both wrote. (and 1 more)"
    assert environment(batch, "east", 0)["HAST_EVENT"] == "split-brain"
    assert document(batch, "east", 2)["messages"][0]["event"] == "resync-done"
    assert "    next step: find out which node has the data to keep: hastctl status disk2" in body(batch, "east", 0)
    assert "2 earlier messages could not be delivered." in body(batch, "east", 2)


def test_hostile_text_stays_one_line_and_has_an_end() -> None:
    hostile = make(Topic.DEGRADED, State.BEGUN, "a\nb", "x\r\nBcc: all\x1b[2J" + "y" * 9000, T)
    line = subject([hostile], "east")
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) <= MAX_SUBJECT_CHARACTERS
    assert len(hostile.text) < 2000


def test_a_message_is_the_same_after_its_record() -> None:
    there = message()
    assert from_record(json.loads(json.dumps(there.record()))) == there
    assert from_record({"event": "nonsense"}) is None
