"""What is asked of hastd, how often, and what comes of one that answers nothing, or nonsense."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from pictures import healthy

from hast.format import frame, nv
from hast.format.constants import PROTOCOL_VERSION
from hast.watch import source as module
from hast.watch.picture import Picture
from hast.watch.source import Source

KEEP_S = 0.4


def message(text: str) -> bytes:
    return b"".join(bytes(part) for part in frame.encode(PROTOCOL_VERSION, [nv.string("json", text)]))


class Hastd:
    """Answers every connection with these bytes; counts them."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        await reader.read(65536)
        await asyncio.sleep(0.05)
        if self.answer is None:
            await reader.read()
        else:
            writer.write(self.answer)
        writer.close()


async def picture_of(hastd: Hastd, path: Path) -> Picture:
    async with await asyncio.start_unix_server(hastd.serve, str(path)):
        return await Source(str(path)).picture()


def test_many_who_look_at_once_cost_one_question_and_the_answer_is_kept_for_a_while(tmp_path: Path) -> None:
    async def story() -> None:
        hastd, path = Hastd(message(json.dumps(healthy()))), tmp_path / "s"
        async with await asyncio.start_unix_server(hastd.serve, str(path)):
            source = Source(str(path), KEEP_S)
            pictures = await asyncio.gather(*(source.picture() for _ in range(8)))
            assert {picture.nodes[1].name for picture in pictures} == {"hastb"}
            assert hastd.asked == 1
            await source.picture()
            assert hastd.asked == 1
            await asyncio.sleep(KEEP_S + 0.05)
            await source.picture()
            assert hastd.asked == 2

    asyncio.run(story())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "no message"),
        (b"\0" * 64, "does not answer on"),
        (message("nonsense"), "does not answer on"),
        (message("[1]"), "no object"),
        (message('{"error": "Unknown command \'report\'."}'), "Unknown command"),
    ],
)
def test_what_is_no_report_is_a_picture_that_says_so(tmp_path: Path, answer: bytes, words: str) -> None:
    picture = asyncio.run(picture_of(Hastd(answer), tmp_path / "s"))
    assert words in picture.here.error
    assert picture.pairs == ()


def test_a_hastd_that_hangs_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    picture = asyncio.run(asyncio.wait_for(picture_of(Hastd(None), tmp_path / "s"), 10))
    assert "no whole message within 0.2 s" in picture.here.error


def test_a_hastd_that_is_not_there_is_named_with_the_reason(tmp_path: Path) -> None:
    picture = asyncio.run(Source(str(tmp_path / "missing")).picture())
    assert "is it running?" in picture.here.error
