"""hast-notify.conf: who is told of what, and mistakes that a person can act on."""

from __future__ import annotations

import pytest

from hast.config.model import ConfigError
from hast.config.notify_model import Kind, Receiver, Topic
from hast.config.notifyconf import parse


def test_every_statement_is_read() -> None:
    text = """
    # who is told
    degraded 120
    host east
    hastd /run/other.sock
    mail root
    mail ops@example.org { only degraded split-brain only disk-failed from hast@example.org sendmail /opt/sendmail }
    webhook "https://example.org/x?y=1" { header "Authorization: Bearer a b" ca /etc/ca.pem gather 0 limit 3 }
    command "logger -t hast \\$HAST_TEXT" { timeout 5 retry 60 }
    """.replace("\\$", "$")
    found = parse(text, "f")
    assert (found.degraded_s, found.host, found.hastd) == (120, "east", "/run/other.sock")
    topics = frozenset({Topic.DEGRADED, Topic.SPLIT_BRAIN, Topic.DISK_FAILED})
    assert found.receivers == (
        Receiver(Kind.MAIL, "root"),
        Receiver(Kind.MAIL, "ops@example.org", topics, sender="hast@example.org", sendmail="/opt/sendmail"),
        Receiver(
            Kind.WEBHOOK,
            "https://example.org/x?y=1",
            gather_s=0,
            limit_per_hour=3,
            headers=(("Authorization", "Bearer a b"),),
            ca="/etc/ca.pem",
        ),
        Receiver(Kind.COMMAND, "logger -t hast $HAST_TEXT", timeout_s=5, retry_s=60),
    )


def test_without_only_a_receiver_wants_everything() -> None:
    receiver = parse("mail root", "f").receivers[0]
    assert all(receiver.wants(topic) for topic in Topic)
    chosen = parse("mail root { only degraded }", "f").receivers[0]
    assert [topic for topic in Topic if chosen.wants(topic)] == [Topic.DEGRADED, Topic.TRY]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mail", "f:1:5: syntax error near '': found the end of the file, expected an address for mail"),
        ('mail "-oQ/tmp"', "f:1:6: '-oQ/tmp' is not one address for mail"),
        ('mail "a b@c"', "f:1:6: 'a b@c' is not one address for mail"),
        ("mail root mail root", "f:1:16: mail root is there twice"),
        ("mail root { only degrated }", "f:1:18: nothing is told of 'degrated'; did you mean degraded?"),
        ('mail root { header "A: b" }', "f:1:13: syntax error near 'header': found 'header', expected"),
        ("mail root { sendmail sendmail }", "f:1:22: 'sendmail' does not begin with /"),
        ('webhook "ftp://x/y"', "f:1:9: that is not a URL that begins with http:// or https://"),
        ('webhook "http://x:99999/"', "f:1:9: that is not a URL that begins with http:// or https://"),
        ('webhook "http://x/" { header "secret" }', 'f:1:30: that is not a header such as "Authorization: Bearer x"'),
        ("command /x { limit 0 }", "f:1:20: limit 0 is not from 1 to 3600"),
        ("degrade 3", "f:1:1: syntax error near 'degrade': found 'degrade' (did you mean 'degraded'?), expected"),
    ],
)
def test_a_mistake_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(text, "f")
    assert str(raised.value).startswith(told)


def test_a_secret_is_in_no_complaint() -> None:
    with pytest.raises(ConfigError) as raised:
        parse('webhook "http://x/" { header "tell nobody" }', "f")
    assert "nobody" not in str(raised.value)
