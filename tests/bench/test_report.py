"""The record: what was asked beside what was measured, tables and plots, and a page that says what the file says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from bench.asked import WISHES
from bench.contestants import NAMES, OURS, several
from bench.events import Copy, covered
from bench.jobs import JOBS
from bench.matrix import DAILY, RECORD, sections
from bench.plots import apart, lines, powers, round_ticks
from bench.processes import read_count
from bench.ratios import ratio
from bench.report import BEGIN, DOCS, END, RATIOS, SECTIONS, dumps, plots, put, table, text
from bench.report import RECORD as RECORD_FILE

SVG = "{http://www.w3.org/2000/svg}"
ROUNDS = 6


def series(value: float, cpu_us: float = 10.0) -> dict[str, list[float]]:
    drift = [value * (1 + number) for number in range(ROUNDS)]
    percentiles = {name: [1.0] * ROUNDS for name in ("p50_us", "p99_us", "p999_us")}
    return {"value": drift, **percentiles, "cpu_us": [cpu_us] * ROUNDS, "system_calls": [2.5]}


def made_up(ours: float = 80.0, stall_us: float = 19_000.0) -> dict[str, Any]:
    """A record in which the floor and one copy do 100 of everything."""
    contestants = {"debian-compiled": ours, "compiled": ours / 2, "floor": 100.0, "single": 100.0}
    return {
        "machine": {
            "processor": "P",
            "processors": 2,
            "kernel": "6",
            "python": "3.11",
            "load": 0.1,
            "time": "2026-11-28T00:00:00+00:00",
            "commit": "c" * 40,
            "changed": False,
        },
        "versions": {"fio": "fio-3", "cc": ""},
        "length": {"rounds": ROUNDS, "seconds": 4, "everything": True},
        "minutes": 50,
        "best": "debian-compiled",
        "others": [0.01, 0.02],
        "sections": {
            "main": {name: {job.name: series(value) for job in JOBS} for name, value in contestants.items()},
            "modes": {
                mode: {"4k randwrite QD1": series(value)}
                for mode, value in (("fullsync", 100.0), ("memsync", 100.0), ("async", 500.0))
            },
        },
        "events": {
            "join past the cache": {"idle_longest_us": [1.0], "longest_us": [stall_us]},
            "idle": {"worker": [2.5]},
        },
        "left_out": ["quorum: nbdkit not installed"],
    }


def judged(record: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {wish.words: wish.judge(record) for wish in WISHES}


def test_ratios_are_of_runs_that_followed_each_other() -> None:
    assert ratio([10, 40, 90], [20, 80, 100]) == 0.5
    assert ratio([1, 6], [0, 3]) == 2
    with pytest.raises(ValueError):
        ratio([1], [1, 2])


def test_what_is_reached_is_met_and_what_is_not_is_missed() -> None:
    found = judged(made_up())
    assert found["4k random writes, depth 32 / floor, compiled"] == ("0.80", "met")
    assert found["4k random reads, depth 32 / one copy, compiled"] == ("0.80", "**missed**")
    assert found["4k random writes, depth 32 / floor, plain Python"] == ("-", "not measured")
    assert found["longest wait of a client while a new disk of 8 TiB joins"] == ("19 ms", "met")
    assert found["wake-ups a second of an idle worker"] == ("2.5", "**missed**")
    slower = judged(made_up(ours=30.0, stall_us=21_000.0))
    assert slower["4k random writes, depth 32 / floor, compiled"] == ("0.30", "**missed**")
    assert slower["longest wait of a client while a new disk of 8 TiB joins"] == ("21 ms", "**missed**")


def test_debians_interpreter_is_judged_and_the_checkouts_shown_beside_it() -> None:
    beside = {wish.words: wish.aside(made_up()) for wish in WISHES}
    assert beside["4k random writes, depth 32 / floor, compiled"] == "0.40"
    assert beside["processor time of both nodes for such a write, compiled"] == "10.0 µs"
    assert beside["4k random writes, depth 32 / floor, plain Python"] == "-"
    assert beside["wake-ups a second of an idle worker"] == ""
    assert "| 4k random writes, depth 32 / floor, compiled | ≥ 0.7 | 0.80 | met | 0.40 |" in text(made_up())


def test_a_mode_is_faster_only_beyond_the_noise() -> None:
    record = made_up()
    assert judged(record)["async at depth 1, 1 ms round trip / fullsync"] == ("5.00", "met")
    assert judged(record)["memsync at depth 1, 1 ms round trip / fullsync"] == ("1.00", "**missed**")
    for each in record["sections"]["modes"].values():
        each["4k randwrite QD1"]["value"] = each["4k randwrite QD1"]["value"][:3]
    assert judged(record)["async at depth 1, 1 ms round trip / fullsync"] == ("-", "not measured")


def test_what_a_record_lacks_is_said_to_be_not_measured() -> None:
    empty = {"sections": {}, "events": {}}
    assert {wish.judge(empty) for wish in WISHES} == {("-", "not measured")}
    assert {wish.aside(empty) for wish in WISHES} == {"-", ""}


def test_all_that_was_measured_is_shown_and_what_was_left_out() -> None:
    shown = text(made_up())
    for words in (
        "| 4k randwrite QD32, IOPS | 280 | 140 | 350 | 350 |",
        "compiled / floor",
        "10.0, 2.50",
        "fio: fio-3.",
    ):
        assert words in shown
    assert "Left out: quorum: nbdkit not installed." in shown
    assert "cc:" not in shown


def test_figures_of_a_busy_machine_are_called_so() -> None:
    record = made_up()
    assert "Other work" not in text(record)
    record["others"] = [0.02, 0.6]
    assert "Other work took 31 % of the processors, at most 60 %" in text(record)
    assert "met |" not in text(record)


def test_a_table_has_as_many_cells_in_each_row() -> None:
    rows = list(table(["", "a", "b"], [("x", "1", "2")]))
    assert {row.count("|") for row in rows} == {4}
    shown = [line.count("|") for line in text(made_up()).splitlines() if line.startswith("|")]
    assert min(shown) >= 4


@pytest.mark.parametrize("name", ["depth.svg", "latency.svg", "size.svg"])
def test_a_plot_is_an_svg_with_a_line_for_each_contestant(name: str) -> None:
    root = ElementTree.fromstring(plots(made_up())[name])
    assert root.tag == f"{SVG}svg"
    drawn = root.findall(f"{SVG}polyline")
    assert len(drawn) == (3 if name == "size.svg" else 4)
    points = [point for line in drawn for point in line.attrib["points"].split()]
    assert all(0 <= float(number) <= 760 for point in points for number in point.split(","))


def test_a_gap_is_no_point_and_words_are_escaped() -> None:
    root = ElementTree.fromstring(lines("a < b", ["1", "2", "3"], {"x & y": [1.0, None, 3.0]}, logarithmic=True))
    assert len(root.findall(f"{SVG}circle")) == 2
    with pytest.raises(ValueError):
        lines("nothing", ["1"], {"x": [None]})


def test_ticks_are_round_and_enclose_what_is_shown() -> None:
    for most in (0.7, 1.0, 9.9, 140_700.0):
        ticks = round_ticks(most)
        assert ticks[0] == 0
        assert ticks[-1] >= most
        assert 3 <= len(ticks) <= 11
    assert powers(5, 200) == [3, 10, 30, 100, 300]


def test_labels_do_not_lie_upon_each_other() -> None:
    places = sorted(apart({"a": 100.0, "b": 101.0, "c": 102.0, "d": 316.0}).values())
    assert all(b - a >= 14 for a, b in pairwise(places))


def test_the_matrix_runs_with_whoever_is_there_and_its_ratios_name_who_runs() -> None:
    makers = dict.fromkeys(NAMES, OURS["hast"])
    for length in (DAILY, RECORD):
        assert sections({"hast": OURS["hast"]}, OURS["hast"], several, length)
        for section in sections(makers, OURS["compiled"], several, length):
            names = {getattr(maker, "name", None) or maker.keywords["name"] for maker in section.makers}  # type: ignore[attr-defined]
            assert section.name in SECTIONS
            assert section.name == "main" or {ours for ours, _ in RATIOS[section.name]} & names


def test_the_daily_matrix_takes_less_than_its_quarter_of_an_hour() -> None:
    makers = dict.fromkeys(NAMES, OURS["hast"])

    def runs_s(found: Sequence[Any]) -> float:
        each_s = [
            len(one.makers) * len(one.jobs) * (one.rounds * (one.seconds + 1) + 2 * one.thorough) for one in found
        ]
        return sum(each_s)

    assert runs_s(sections(makers, OURS["compiled"], several, DAILY)) < 12 * 60


def test_a_copys_rate_and_whether_it_outlasted_the_client() -> None:
    copy = Copy(begin_s=10.0, end_s=14.0, left_bytes=800 << 20)
    assert copy.rate_mib_s == 200
    assert covered(copy, 11.0, 13.0) == 1
    assert covered(copy, 13.0, 15.0) == 0.5
    assert covered(copy, 20.0, 22.0) == 0


def test_what_perf_counted_is_read_or_known_to_be_missing() -> None:
    assert read_count("# started\n\n4211;;raw_syscalls:sys_enter;1001;100.00;;\n") == 4211
    assert read_count("<not supported>;;raw_syscalls:sys_enter;0;;;\n") is None
    assert read_count("") is None


def test_the_file_holds_a_series_to_a_line_and_says_the_same() -> None:
    record = made_up()
    assert json.loads(dumps(record)) == record
    assert max(len(line) for line in dumps(record).splitlines()) > 20
    assert len(dumps(record).splitlines()) < 700


def test_a_page_keeps_its_own_words_around_the_record() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    made = put(page, made_up())
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert "old" not in made
    assert put(made, made_up()) == made
    with pytest.raises(ValueError):
        put("no marks", made_up())


def test_the_page_and_its_plots_say_what_the_checked_in_record_says() -> None:
    record = json.loads(RECORD_FILE.read_text())
    page = (DOCS / "performance.md").read_text()
    assert put(page, record) == page, "run: make bench-report"
    assert {path.name: path.read_text() for path in RECORD_FILE.parent.glob("*.svg")} == plots(record)
