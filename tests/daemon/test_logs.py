"""Log lines (specification section 8.1)."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hast.daemon import logs


def record(level: int, text: str, **extra: str) -> logging.LogRecord:
    made = logging.LogRecord("hast", level, "", 0, text, (), None)
    made.__dict__.update(extra)
    return made


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (logging.DEBUG, "[DEBUG][1]"),
        (logging.INFO, "[INFO]"),
        (logs.NOTICE, "[NOTICE]"),
        (logging.WARNING, "[WARNING]"),
        (logging.ERROR, "[ERROR]"),
        (logging.CRITICAL, "[CRIT]"),
    ],
)
def test_levels_have_the_reference_names(level: int, name: str) -> None:
    assert logs.LineFormatter().format(record(level, "text")) == f"{name} text"


def test_resource_and_role_come_first_and_lines_stay_one() -> None:
    formatted = logs.LineFormatter().format(record(logging.INFO, "a\nb\n", **logs.context("disk1", "primary")))
    assert formatted == "[INFO] [disk1] (primary) a | b"
    assert logs.context("disk1") == {"hast_prefix": "[disk1] "}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(28, "No space left on device", "/x"), "No space left on device"),
        (OSError("gone"), "gone"),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (ValueError("bad"), "bad"),
    ],
)
def test_reason_is_words_without_a_number(error: Exception, text: str) -> None:
    assert logs.in_words(error) == text


def test_exception_is_one_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        made = record(logging.ERROR, "failed")
        made.exc_info = (ValueError, error, error.__traceback__)
    assert logs.LineFormatter(with_level=False).format(made) == "failed: ValueError: bad"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("resource '\x1b[2Jx'", "resource '\\x1b[2Jx'"),
        ("resource '\udcff'", "resource '\\xff'"),
        ("name\rNov 28 forged", "name | Nov 28 forged"),
    ],
)
def test_foreign_text_cannot_steer_a_terminal_or_forge_a_line(text: str, shown: str) -> None:
    """Security finding 5."""
    assert logs.LineFormatter(with_level=False).format(record(logging.INFO, text)) == shown
    named = record(logging.INFO, "refused", **logs.context("disk\n\x07"))
    assert logs.LineFormatter(with_level=False).format(named) == "[disk\\n\\x07] refused"


def test_a_line_that_cannot_be_written_does_not_end_the_log() -> None:
    """Security finding 5: a name with byte 0xff was the last that was ever logged."""
    written: list[str] = []

    def write(_level: int, line: str) -> None:
        line.encode()
        written.append(line)

    handler = logs.QueuedHandler(write)
    handler.setFormatter(logging.Formatter())
    handler.emit(record(logging.INFO, "bad \udcff"))
    handler.emit(record(logging.INFO, "good"))
    handler.close()
    assert written == ["good", "1 log lines were dropped: the log did not take them."]


def test_warnings_go_to_stderr_and_the_rest_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.setup(foreground=True, debug=0, resource="disk1", role="primary")
        logging.getLogger("hast").info("fine")
        logging.getLogger("hast").debug("hidden")
        logging.getLogger("hast").warning("bad")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    captured = capsys.readouterr()
    assert captured.out == "[INFO] [disk1] (primary) fine\n"
    assert captured.err == "[WARNING] [disk1] (primary) bad\n"


PROGRAM = """
import logging
from hast.daemon import logs
logs.setup(foreground=True, debug=1, resource="disk1", role="primary")
for level in (10, 20, 25, 30, 40, 50):
    logging.getLogger("hast").log(level, "text\\nof two lines")
"""
"""Every level once, under -F."""


def run_under(journal: str, directory: Path) -> tuple[str, str]:
    """What goes to stdout and stderr while JOURNAL_STREAM names `journal`: `this` (stderr itself) or something else."""
    out, errors = directory / "out", directory / "errors"
    with out.open("w") as stdout, errors.open("w") as stderr:
        status = os.fstat(stderr.fileno())
        stream = f"{status.st_dev}:{status.st_ino}" if journal == "this" else journal
        environment = {**os.environ, "JOURNAL_STREAM": stream}
        command = [sys.executable, "-c", PROGRAM]
        subprocess.run(command, env=environment, stdout=stdout, stderr=stderr, timeout=20, check=True)
    return out.read_text(), errors.read_text()


def test_under_the_journal_each_line_has_its_priority_and_no_word_for_it(tmp_path: Path) -> None:
    out, errors = run_under("this", tmp_path)
    assert out == ""
    assert errors.splitlines() == [f"<{n}>[disk1] (primary) text | of two lines" for n in (7, 6, 5, 4, 3, 2)]


@pytest.mark.parametrize("stream", ["1:2", "", "nonsense", "1:2:3"])
def test_a_journal_that_is_not_at_stderr_changes_nothing(stream: str, tmp_path: Path) -> None:
    out, errors = run_under(stream, tmp_path)
    assert out.startswith("[DEBUG][1] [disk1] (primary) text | of two lines\n[INFO] ")
    assert errors.startswith("[WARNING] ")


def test_slow_log_drops_lines_and_says_how_many() -> None:
    gate, written = threading.Event(), list[str]()

    def write(_level: int, line: str) -> None:
        gate.wait(5)
        written.append(line)

    handler = logs.QueuedHandler(write, limit=5)
    handler.setFormatter(logs.LineFormatter(with_level=False))
    for index in range(50):
        handler.handle(record(logging.INFO, str(index)))
    gate.set()
    handler.close()
    assert written[0] == "0"
    assert "log lines were dropped" in written[-1]
    assert len(written) < 10
