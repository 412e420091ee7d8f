"""Manual pages from docs/NAME.SECTION.md, in the man macros of groff.

Knows what our pages use: headings, paragraphs, code, lists, tables, emphasis. A table whose second heading is empty
becomes a list of terms; any other goes through tbl. What it does not know is an error: no page loses text silently.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

PAGE = re.compile(r"(?P<name>[a-z.-]+)\.(?P<section>[158])\.md")
_TITLE = re.compile(r"(?P<name>[\w.-]+)\((?P<section>\d)\) - (?P<what>.+)")
_TABLE_CHARACTERS = 70
_GAP_CHARACTERS = 2
_WRAPPED_CHARACTERS = 22
"""What a column whose text wraps gets at least."""
_KEPT_LINES = 20
"""More than that of a table may stand on two pages."""
_SECTIONS = {"1": "User Commands", "5": "File Formats Manual", "8": "System Manager's Manual"}
_INLINE = {"strong_open": r"\fB", "em_open": r"\fI", "strong_close": r"\fR", "em_close": r"\fR"}


def pages(docs: Path) -> list[Path]:
    """Sources of the manual pages, sorted."""
    return sorted(path for path in docs.iterdir() if PAGE.fullmatch(path.name))


def render(path: Path, version: str) -> str:
    """One page. Raises ValueError for what cannot be rendered."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    return "'\\\" t\n" + "\n".join(_Renderer(tokens, path.name, version).lines()) + "\n"


def _date() -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())))


def _escape(text: str) -> str:
    return (
        text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga").replace("^", r"\(ha")
    )


def _protect(line: str) -> str:
    """A text line that begins with a dot is no request."""
    return "\\&" + line if line.startswith((".", "'")) else line


def _inline(token: Token, capitals: bool = False) -> str:
    def escape(text: str) -> str:
        return _escape(text.upper() if capitals else text)

    parts = []
    for child in token.children or ():
        match child.type:
            case "text":
                parts.append(escape(child.content))
            case "code_inline":
                parts.append(rf"\fB{escape(child.content)}\fR")
            case "softbreak":
                parts.append("\n")
            case "hardbreak":
                parts.append("\n.br\n")
            case "link_open" | "link_close":
                pass
            case kind if kind in _INLINE:
                parts.append(_INLINE[kind])
            case kind:
                raise ValueError(f"cannot render {kind}: {child.content!r}")
    return "\n".join(line if line == ".br" else _protect(line) for line in "".join(parts).split("\n"))


class _Renderer:
    def __init__(self, tokens: list[Token], source: str, version: str) -> None:
        self._tokens = iter(tokens)
        self._source = source
        self._version = version
        self._marks: list[str] = []
        """Of the lists that we are in: the bullet, or the number of the next item."""
        self._item_begins = False

    def lines(self) -> Iterator[str]:
        for token in self._tokens:
            match token.type:
                case "heading_open":
                    yield from self._heading(int(token.tag[1]))
                case "paragraph_open":
                    yield from self._paragraph()
                case "fence":
                    self._item_begins = False
                    yield from (".IP" if self._marks else ".PP", ".RS 4", ".EX")
                    yield from (_protect(_escape(line)) for line in token.content.rstrip("\n").split("\n"))
                    yield from (".EE", ".RE")
                case "bullet_list_open":
                    self._marks.append(r"\(bu")
                case "ordered_list_open":
                    self._marks.append(str(token.attrs.get("start", 1)))
                case "list_item_open":
                    self._item_begins = True
                case "bullet_list_close" | "ordered_list_close":
                    self._marks.pop()
                case "table_open":
                    yield from self._table()
                case "paragraph_close" | "heading_close" | "list_item_close":
                    pass
                case kind:
                    raise ValueError(f"{self._source}: cannot render {kind}")

    def _heading(self, level: int) -> Iterator[str]:
        token = next(self._tokens)
        if level > 1:
            yield f".SH {_inline(token, capitals=True)}" if level == 2 else f".SS {_inline(token)}"
            return
        title = _TITLE.fullmatch(token.content)
        if title is None or f"{title['name']}.{title['section']}.md" != self._source:
            raise ValueError(f"{self._source}: the title is not NAME(SECTION) - WHAT IT IS")
        name, section = title["name"], title["section"]
        yield f'.TH {name.upper()} {section} {_date()} "HAST {self._version}" "{_SECTIONS[section]}"'
        yield ".SH NAME"
        yield f"{_escape(name)} \\- {_escape(title['what'])}"

    def _paragraph(self) -> Iterator[str]:
        if self._item_begins:
            mark = self._marks[-1]
            yield f".IP {mark}{'' if mark.startswith(chr(92)) else '.'} 4"
            if mark.isdecimal():
                self._marks[-1] = str(int(mark) + 1)
            self._item_begins = False
        else:
            yield ".IP" if self._marks else ".PP"
        yield _inline(next(self._tokens))

    def _table(self) -> Iterator[str]:
        rows: list[list[str]] = []
        for token in self._tokens:
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(_inline(token))
        head, body = rows[0], rows[1:]
        if len(head) == 2 and not head[1]:
            for term, text in body:
                yield from (".TP", term, text)
            return
        widths = [max(len(re.sub(r"\\f.|\\", "", cell)) for cell in column) for column in zip(*rows, strict=True)]
        wide = _wrapped(widths)
        # A short table stays on one page: tbl cannot break the text of a cell.
        yield f".ne {min(2 * len(rows), _KEPT_LINES)}v"
        yield from (".PP", ".ad l", ".nh", ".TS")
        gaps = [str(_GAP_CHARACTERS)] * (len(head) - 1) + [""]
        yield " ".join(f"lb{gap}" for gap in gaps)
        yield " ".join(f"l{gap}x" if each else f"l{gap}" for each, gap in zip(wide, gaps, strict=True)) + "."
        for row in rows:
            yield "\t".join(_wrap(cell) if each and cell else cell for cell, each in zip(row, wide, strict=True))
        yield from (".TE", ".ad b", ".hy", ".PP")


def _wrap(cell: str) -> str:
    """A cell that fills its column; long words may break after what joins their parts."""
    return "T{\n" + re.sub(r"([|/:,_=])(?=\S)", r"\1\:", cell) + "\nT}"


def _wrapped(widths: list[int]) -> list[bool]:
    """Which columns must wrap so that the table fits: the widest first."""
    wide = [False] * len(widths)
    for column in sorted(range(len(widths)), key=lambda each: -widths[each]):
        needed = sum(_WRAPPED_CHARACTERS if wide[each] else widths[each] for each in range(len(widths)))
        if needed + _GAP_CHARACTERS * len(widths) <= _TABLE_CHARACTERS or widths[column] <= _WRAPPED_CHARACTERS:
            break
        wide[column] = True
    return wide
