"""The report holds what was found, in one file that fetches nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from drill_sites import ARTICLE, changed, site

from hast.drill.decisions.outcome import Outcome, Phase, judge
from hast.drill.decisions.result import Cost, Result, Simulated, shares, worse
from hast.drill.decisions.review import review
from hast.drill.decisions.steps import DOUBLE, SINGLE, START, steps_of
from hast.drill.decisions.translate import Tools, translate
from hast.drill.report import page, plots, text
from hast.drill.simulated import DOUBLES
from hast.format.constants import Replication

PHASES = tuple(
    Phase(name, 1.0 + number) for number, name in enumerate(("missed: x", "ordered: x", "roles: x", "served: x"))
)
CABLE = next(step for step in SINGLE if step.action == "client_cable")
HICCUP = next(step for step in SINGLE if step.action == "hiccup")


def result(folder: Path, *outcomes: Outcome, lossy: int = 7) -> Result:
    files = changed(ARTICLE, "carp.conf", "mypassword advskew 100", '<b>&" advskew 100'.replace('"', ""))
    own = site(folder, files)
    costs = tuple(
        Cost(double.name, mode, arbiter, 10, 0 if arbiter else 10, 0 if arbiter else lossy, 0 if arbiter else lossy)
        for double in DOUBLES
        for mode in Replication
        for arbiter in (False, True)
    )
    simulated = Simulated(100, 5000, 720.0, 9.0, Replication.FULLSYNC, False, (), costs)
    moments = tuple(number / 10 for number in range(100) if not 20 < number < 60)
    return Result(
        own,
        translate(own, Tools()),
        review(own),
        outcomes,
        (HICCUP,),
        moments,
        (2.0,),
        simulated,
        60.0,
        2,
        "2026-11-28 18:00",
    )


def played() -> list[Outcome]:
    good = [
        Outcome(CABLE, turn, 5.0 * turn, 5.0 * turn + 4, "hast1", "hast2", 4.0 + turn, 0.0, 0, 9, PHASES)
        for turn in (1, 2)
    ]
    bad = Outcome(
        HICCUP, 1, 20.0, 24.0, "hast2", "hast2", 1.5, complaints=["gave up: <it> ended"], log=("0.1 s  <line>",)
    )
    judge(bad, ())
    double = Outcome(
        DOUBLE[0], 1, 30.0, 40.0, "hast1", "hast2", 5.0, lost=21, remarks=["split brain when both are back"]
    )
    return [Outcome(START, 1, 0.0, 4.0, "hast1", "hast1", 3.0), *good, bad, double]


class Tags(HTMLParser):
    """What is fetched, and whether every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        assert tag not in ("script", "link", "img", "iframe")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    html = page.page(result(tmp_path, *played()))
    tags = Tags()
    tags.feed(html)
    assert (tags.open, tags.fetched) == ([], [])
    assert not re.search(r"url\(|@import|https?:", html.replace("tcp4://", ""))


def test_the_page_shows_failures_suspects_losses_and_what_was_left_out(tmp_path: Path) -> None:
    html = page.page(result(tmp_path, *played()))
    for word in ("not as it should be", "gave up: &lt;it&gt; ended", "suspected: ", "21 acknowledged records are LOST",
                 "left out", "flushed writes lost in 7 of 10", "does not serve", "&lt;line&gt;", "4 of 5"):  # fmt: skip
        assert word in html


def test_no_password_is_in_the_page(tmp_path: Path) -> None:
    html = page.page(result(tmp_path, *played()))
    assert "mypassword" not in html
    assert "drill2" in html


def test_a_drill_that_did_not_start_has_a_report(tmp_path: Path) -> None:
    outcome = Outcome(START, 1, complaints=["no master: no host does"])
    judge(outcome, ())
    html = page.page(result(tmp_path, outcome))
    assert "no master" in html
    assert "<svg" not in html


def test_gaps_of_the_client_are_gaps_of_the_line() -> None:
    assert list(plots.flows([0.0, 0.1, 0.2, 4.0, 4.1])) == [(0.0, 0.2), (4.0, 4.1)]
    assert list(plots.resting([0.0, 0.2, 4.0], [0.1, 0.3, 5.0])) == [(0.1, 0.2), (0.3, 4.0)]


def test_the_plots_mark_failed_steps(tmp_path: Path) -> None:
    found = result(tmp_path, *played())
    assert plots.pauses(found.singles).count("<circle") == 4
    assert 'class="label bad"' in plots.pauses(found.singles)
    assert plots.composition(found.outcomes).count("<title>missed") == 2


def test_the_price_of_settings_is_told_from_what_was_measured(tmp_path: Path) -> None:
    found = result(tmp_path, *played())
    assert [share.seconds for share in shares(found.outcomes)] == [1.0, 2.0, 3.0, 4.0]
    said = "\n".join(worse(found))
    assert said.startswith("4.0 s of 10.0 s of a fail-over: served")
    assert "arbiter: with one nothing flushed is lost in: primary" in said
    assert "with one" not in "\n".join(worse(result(tmp_path / "2", *played(), lossy=0)))


def test_lines_say_who_serves_what_is_lost_and_who_is_suspected(tmp_path: Path) -> None:
    outcomes = played()
    assert text.line(2, 9, outcomes[1])[0].split() == [*f"2/9 {CABLE.does} ok 5.00 s, hast1 -> hast2".split()]
    failed = text.line(4, 9, outcomes[3])
    assert "FAILED" in failed[0]
    assert failed[-1] == "      suspected: look at hast.conf: timeout"
    summary = "\n".join(text.summary(result(tmp_path, *outcomes)))
    for word in ("1 of 5 steps failed", "21 acknowledged records are LOST", "left out", "no arbiter: both", "mistakes"):
        assert word in summary


def test_the_plan_says_every_step_and_that_nothing_is_changed(tmp_path: Path) -> None:
    own = site(tmp_path)
    steps = list(steps_of(own, 2, False, True))
    lines = text.plan(own, translate(own, Tools()), steps, 100, 300.0)
    assert sum(step.does in "\n".join(lines) for _, step in steps) == len(steps)
    assert lines[-1] == "about 5 minutes; nothing of this machine is changed"
