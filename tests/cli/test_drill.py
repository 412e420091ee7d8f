"""`hastctl drill` where it does nothing: the plan, mistakes that no file may have, and who may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from drill_sites import ARTICLE, changed, write

from hast.cli.hastctl import run


def test_the_plan_names_steps_and_findings_and_needs_no_rights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = changed(ARTICLE, "failover.conf", " disk3", "")
    assert run(["drill", "-c", str(write(tmp_path, files)), "--node", "hast1", "--plan"]) == 0
    told = capsys.readouterr().out
    assert "clients use 10.10.10.180:10809" in told
    assert "mistake: failover.conf, resources: both nodes: disk3 of hast.conf is missing" in told


def test_a_file_with_a_mistake_is_answered_as_hastctl_check_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, changed(ARTICLE, "hast.conf", "on hast2", "of hast2"))
    assert run(["drill", "-c", str(path), "--node", "hast1", "--plan"]) == 78
    assert f"{path}:2:5: syntax error" in capsys.readouterr().err
    (tmp_path / "carp.conf").unlink()
    path = write(tmp_path / "other", {"hast.conf": ARTICLE["hast.conf"]})
    assert run(["drill", "-c", str(path), "--node", "hast1", "--plan"]) == 72


def test_what_this_machine_lacks_is_a_mistake_where_its_own_files_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = os.uname().nodename.partition(".")[0]
    files = {name: text.replace("hast1", here) for name, text in ARTICLE.items()}
    assert run(["drill", "-c", str(write(tmp_path, files)), "--plan"]) == 0
    told = capsys.readouterr().out
    assert "this machine has no interface re0" in told
    assert "this machine has no /dev/ad1" in told


def test_without_root_it_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    path = write(tmp_path, ARTICLE)
    assert run(["drill", "-c", str(path), "--node", "hast1"]) == 77
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "hastctl: drill needs root: network namespaces, mounts and loop devices of its own\n"


def test_a_report_that_cannot_be_written_is_found_before_the_drill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hast.drill.drill._refuse_without_means", lambda: None)
    report = tmp_path / "nowhere" / "report.html"
    assert run(["drill", "-c", str(write(tmp_path, ARTICLE)), "--node", "hast1", "--report", str(report)]) == 73
    assert "No such file or directory" in capsys.readouterr().err
