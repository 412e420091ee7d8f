"""The article, typed as it stands on two hosts, and what the hosts answer compared with the article's text.

The story is played once; each test looks at one step of it. Departures from the text, all of them: hastd is started by
its name and not by /etc/rc.d; `zpool import` is told where to look (-d /dev/hast; zpool on Linux searches /dev only);
the article's own output says /dev/ada1 where its configuration says /dev/ad1; zfs-fuse prints `scrub:` for `scan:`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hast.lab import Host, Lab, LabError, zfs

pytestmark = [pytest.mark.lab, pytest.mark.device, pytest.mark.xdist_group("article")]

DISKS = ("disk1", "disk2", "disk3")
STEP_TIMEOUT_S = 60.0
COMPLETE_TIMEOUT_S = 30.0
CONTENT = "for n in 1 2 3; do head -c 3000000 /dev/urandom > /zhast/file$n; done; sync /zhast/*; sha256sum /zhast/file*"

Done = subprocess.CompletedProcess[str]


class Story:
    """The steps played so far, by name."""

    def __init__(self, text: str, lab: Lab) -> None:
        self.text = text
        self.lab = lab
        self.steps: dict[str, list[Done]] = {}
        self.ended: str = ""

    def configuration(self) -> str:
        """The article's hast.conf, on one line as it stands there."""
        return re.search(r"^resource disk1 \{.*\}$", self.text, re.MULTILINE)[0]  # type: ignore[index]

    def between(self, begin: str, end: str) -> str:
        """The article's text from one phrase up to another."""
        return self.text.split(begin, 1)[1].split(end, 1)[0]

    def commands(self, text: str, host: str) -> list[str]:
        """The commands behind this host's prompts in a piece of text."""
        pieces = re.split(r"(hast[12])# ?", text)
        return [command.strip() for name, command in zip(pieces[1::2], pieces[2::2], strict=True) if name == host]

    def play(self, step: str, host: Host, commands: list[str]) -> None:
        self.steps[step] = []
        for command in commands:
            done = host.run(["sh", "-c", command], timeout_s=STEP_TIMEOUT_S)
            self.steps[step].append(done)
            assert done.returncode == 0, f"{host.name}# {command}: {done.stdout}{done.stderr}\n{host.log()[-2000:]}"

    def play_until(self, step: str, host: Host, command: str, good: re.Pattern[str]) -> None:
        """Repeat a command until it prints this, or for as long as the deadline allows."""

        def reached() -> bool:
            self.play(step, host, [command])
            return good.search(flat(self.output(step))) is not None

        try:
            host.wait_for(step, reached, COMPLETE_TIMEOUT_S)
        except LabError:
            pass

    def output(self, step: str) -> str:
        assert step in self.steps, f"the story ended before {step!r}: {self.ended}"
        return "".join(done.stdout for done in self.steps[step])


def flat(text: str) -> str:
    return " ".join(text.split())


def pattern(told: str) -> re.Pattern[str]:
    """The article's output as an expression: white space is free, `...` stands for any lines."""
    told = re.sub(r"/dev/ada(\d)", r"/dev/ad\1", told).strip().replace("...", "\0")
    escaped = " ".join(re.escape(word) for word in told.split())
    return re.compile(escaped.replace(" \0", "(?: .*?)?").replace("\0", ".*?"))


@pytest.fixture(scope="module")
def story(shared: Path) -> Iterator[Story]:
    if shutil.which("zfs-fuse") is None:
        pytest.skip("needs zfs-fuse")
    text = (shared / "article.txt").read_text()
    with Lab(configuration=re.search(r"^resource disk1 \{.*\}$", text, re.MULTILINE)[0] + "\n") as lab:  # type: ignore[index]
        told = Story(text, lab)
        try:
            play(told)
        except (AssertionError, LabError) as error:
            told.ended = str(error)
        yield told


def play(story: Story) -> None:
    one, two = story.lab.hast1, story.lab.hast2
    for host in (one, two):
        zfs.start(host)
        story.play(f"start {host.name}", host, ["hastd"])
    story.play("devices before", one, ["ls /dev/hast || true"])
    roles = story.between("finally assign a primary role:", "Next, on the secondary node")
    story.play("primary", one, story.commands(roles, "hast1"))
    roles = story.between("finally assign a secondary role:", "There are other ways")
    story.play("secondary", two, story.commands(roles, "hast2"))
    story.play_until("status hast1", one, "hastctl status", told_status(story, "hast1"))
    story.play_until("status hast2", two, "hastctl status", told_status(story, "hast2"))
    story.play("devices of primary", one, ["ls /dev/hast || true"])
    story.play("devices of secondary", two, ["ls /dev/hast || true"])
    create, look = pool_commands(story)
    story.play("create pool", one, [create])
    story.play("pool status", one, [look.partition(" pool:")[0]])
    story.play("write", one, [CONTENT])
    give_up = story.between("change our resources role:", "Now, lets reverse")
    story.play("give up", one, story.commands(give_up, "hast1"))
    story.play("devices after give up", one, ["ls /dev/hast || true"])
    take = story.between("on the standby node:", "The roles have successfully")
    story.play("take", two, [on_linux(command) for command in story.commands(take, "hast2")])
    story.play("pool status after", two, ["zpool status zhast"])
    story.play("read", two, ["sha256sum /zhast/file*"])
    story.play_until("status after", two, "hastctl status", told_status_after(story))
    story.play("away", two, ["zpool export zhast", "hastctl role init all"])
    story.play("away hast1", one, ["hastctl role init all"])


def pool_commands(story: Story) -> list[str]:
    return story.commands(story.between("This directory appears only at the active node.", "We can now use"), "hast1")


def on_linux(command: str) -> str:
    return command.replace("zpool import", "zpool import -d /dev/hast")


def told_status(story: Story, host: str) -> re.Pattern[str]:
    end = {"hast1": "The first node looks good", "hast2": "So does the second"}[host]
    return pattern(story.between(f"{host}# hastctl status", end))


def told_status_after(story: Story) -> re.Pattern[str]:
    return pattern(
        story.between("sample output from the second node now in charge:", "It is now time").split("status", 1)[1]
    )


def test_hastd_starts_on_both(story: Story) -> None:
    assert [done.returncode for done in (*story.steps["start hast1"], *story.steps["start hast2"])] == [0, 0]


def test_before_there_is_a_primary_there_is_no_device(story: Story) -> None:
    assert story.output("devices before") == ""


def test_init_create_and_primary_are_silent_on_hast1(story: Story) -> None:
    assert (len(story.steps["primary"]), story.output("primary")) == (9, "")


def test_init_create_and_secondary_are_silent_on_hast2(story: Story) -> None:
    assert (len(story.steps["secondary"]), story.output("secondary")) == (9, "")


@pytest.mark.parametrize("host", ["hast1", "hast2"])
def test_status_is_what_the_article_shows(story: Story, host: str) -> None:
    assert told_status(story, host).search(flat(story.output(f"status {host}"))), story.output(f"status {host}")


def test_devices_are_on_the_primary(story: Story) -> None:
    assert story.output("devices of primary").split() == list(DISKS)


def test_devices_are_not_on_the_secondary(story: Story) -> None:
    assert story.output("devices of secondary") == ""


def test_the_pool_is_created(story: Story) -> None:
    assert [done.returncode for done in story.steps["create pool"]] == [0]


def test_pool_status_is_what_the_article_shows(story: Story) -> None:
    told = story.between("zpool status zhast pool:", "We can now use")
    assert pattern("pool:" + told).search(flat(story.output("pool status")).replace("scrub:", "scan:"))


def test_the_pool_and_the_role_are_given_up(story: Story) -> None:
    assert (len(story.steps["give up"]), story.output("give up")) == (4, "")


def test_devices_disappear_with_the_role(story: Story) -> None:
    assert story.output("devices after give up") == ""


def test_the_other_host_takes_role_and_pool(story: Story) -> None:
    assert (len(story.steps["take"]), story.output("take")) == (4, "")


def test_pool_status_on_the_other_host_is_what_the_article_shows(story: Story) -> None:
    told = story.between("hast2# zpool status zhast", "Again, by using")
    assert pattern(told).search(flat(story.output("pool status after")).replace("scrub:", "scan:"))


def test_every_file_arrived(story: Story) -> None:
    assert story.output("read") == story.output("write") != ""


def test_status_after_the_fail_over_is_what_the_article_shows(story: Story) -> None:
    assert told_status_after(story).search(flat(story.output("status after"))), story.output("status after")


def test_everything_can_be_put_away(story: Story) -> None:
    assert story.output("away") + story.output("away hast1") == ""
