"""docs/problems.md and docs/diagrams.md, made of the tables and the decisions in the code; `make docs` writes them.

    python3 packaging/drawings.py [DIRECTORY]

Nothing is drawn by hand: decisions are asked, plans are run, tables are read. Diagrams are Mermaid, which GitHub shows.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src")]

from hast.election.carp import Vhid  # noqa: E402
from hast.election.carp_types import TABLE, State  # noqa: E402
from hast.format.constants import PROTOCOL_VERSION, Role  # noqa: E402
from hast.format.handshake import Hello, HelloReply, SecondHello, SecondReply  # noqa: E402
from hast.replication.accept import AcceptA, AcceptB, Ignore, Opening, Refuse, View, decide  # noqa: E402
from hast.replication.table import SOURCES, Relation, Verdict  # noqa: E402
from hast.supervisor.decisions.role_change import Facts, change  # noqa: E402
from hast.supervisor.decisions.steps import Answer, Step  # noqa: E402
from hast.watch.catalogue import CATALOGUE  # noqa: E402

MADE = "<!-- Made by `make docs` from the code; do not edit. -->"
LINE_CHARACTERS = 40
TOKEN, WRONG = b"t" * 32, b"w" * 32


# --- problems ---------------------------------------------------------------------------------------------------------


def problems() -> str:
    """The catalogue as a page."""
    lines = [MADE, "# Problems by their code", ""]
    lines += [
        "What `hastctl status --both`, `status --check` and `top` call a problem; `hastctl explain CODE` says the",
        "same. NAME is the resource. The exit code of `status --check` is that of the gravest.",
        "",
    ]
    for kind in CATALOGUE.values():
        lines += [f"## {kind.code}", "", f"**{kind.level.name}.** {kind.meaning}", ""]
        lines += [f"{number}. {step}" for number, step in enumerate(kind.steps, 1)]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


# --- who may connect --------------------------------------------------------------------------------------------------

Question = tuple[str, Sequence[str]]
QUESTIONS: tuple[Question, ...] = (
    ("the message names a resource", ("yes", "no")),
    ("it is configured here", ("yes", "no")),
    ("the peer showed its key, where one is asked for", ("yes", "no")),
    ("its address is one of the peer's", ("yes", "no")),
    ("this hastd is stopping", ("no", "yes")),
    ("role here", ("secondary", "primary", "init")),
    ("token of connection A", ("none sent", "the right one", "a wrong one")),
)


def _decided(answers: Sequence[str]) -> str:
    """What accept.decide says to a peer for which the questions have these answers."""
    named, known, proven, allowed, stopping, role, token = answers
    sent = {"none sent": None, "the right one": TOKEN, "a wrong one": WRONG}[token]
    opening = Opening("disk1" if named == "yes" else None, PROTOCOL_VERSION, sent)
    view = View(known == "yes", allowed == "yes", proven == "yes", Role(role), stopping == "yes", TOKEN)
    decision = decide(opening, view)
    match decision:
        case Ignore():
            return f"closed without an answer: {decision.reason}"
        case Refuse():
            return f"refused: {decision.errmsg}{' (try again soon)' if decision.wait else ''}"
        case AcceptA():
            return "message 2: version, token, features"
        case AcceptB():
            return "both connections go to a worker, which answers with message 4"
    raise TypeError(decision)


def accept_chart() -> list[str]:
    """The decision as a tree: a question is drawn only where the outcome depends on it."""
    lines = ["flowchart TD"]
    outcomes: dict[str, str] = {}
    numbers = iter(range(1, 1000))

    def node(asked: tuple[str, ...]) -> str:
        ends = {_decided((*asked, *rest)) for rest in _combinations(len(asked))}
        if len(ends) == 1:
            (text,) = ends
            if text not in outcomes:
                outcomes[text] = f"e{next(numbers)}"
                lines.append(f'  {outcomes[text]}["{text}"]')
            return outcomes[text]
        question, answers = QUESTIONS[len(asked)]
        below = [(answer, node((*asked, answer))) for answer in answers]
        if len({target for _answer, target in below}) == 1:
            return below[0][1]
        name = f"q{next(numbers)}"
        lines.append(f'  {name}{{{{"{question}?"}}}}')
        lines.extend(f"  {name} -- {answer} --> {target}" for answer, target in below)
        return name

    node(())
    return lines


def _combinations(start: int) -> Iterator[tuple[str, ...]]:
    if start == len(QUESTIONS):
        yield ()
        return
    for answer in QUESTIONS[start][1]:
        for rest in _combinations(start + 1):
            yield (answer, *rest)


# --- the messages -----------------------------------------------------------------------------------------------------


def messages_chart() -> list[str]:
    """The four messages with the names of their fields, as the codec writes them."""
    one = Hello("disk1", features=1)
    two = HelloReply(token=TOKEN, features=1)
    three = SecondHello("disk1", TOKEN, 1, 1, 1, virgin=True, boot_id=TOKEN, changes=1, replication="fullsync")
    four = SecondReply(virgin=True, boot_id=TOKEN, discards=1)
    split = SecondReply(errmsg="x", changes=1, reason="x", mapsize_bytes=1)
    fields = [_told(str(name) for name, *_value in each.fields()) for each in (one, two, three, four, split)]
    return [
        "sequenceDiagram",
        "  participant P as primary<br/>(worker)",
        "  participant H as secondary<br/>(hastd)",
        "  participant S as secondary<br/>(worker)",
        f"  P->>H: connection A, message 1:<br/>{fields[0]}",
        f"  H->>P: connection A, message 2:<br/>{fields[1]}",
        f"  P->>H: connection B, message 3:<br/>{fields[2]}",
        "  H->>S: both connections",
        "  alt the copies can be joined",
        f"    S->>P: connection A, message 4:<br/>{fields[3]}, and its map",
        "  else split brain",
        f"    S->>P: connection A, message 4:<br/>{fields[4]}",
        "  end",
    ]


def _told(names: Iterable[str]) -> str:
    """In lines that fit between two of the participants."""
    return "<br/>".join(textwrap.wrap(", ".join(names), LINE_CHARACTERS))


# --- whose data are newer ---------------------------------------------------------------------------------------------


def sources_table() -> list[str]:
    """The nine cells."""
    words = {Relation.LESS: "less than", Relation.EQUAL: "equal to", Relation.GREATER: "greater than"}
    columns = [Relation.LESS, Relation.EQUAL, Relation.GREATER]
    lines = ["| | " + " | ".join(f"secondary's remotecnt {words[each]} primary's localcnt" for each in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for row in columns:
        cells = [_verdict(SOURCES[row, column]) for column in columns]
        lines.append(f"| secondary's localcnt {words[row]} primary's remotecnt | {' | '.join(cells)} |")
    return lines


def _verdict(verdict: Verdict) -> str:
    if verdict.split_brain:
        return "**split brain**"
    what = "all of it" if verdict.full else "what differs"
    return f"{what} from the {verdict.source.name.lower()}{'' if verdict.expected else ' (unexpected)'}"


# --- the virtual address ----------------------------------------------------------------------------------------------


def carp_chart() -> list[str]:
    """States and what leads from one to the other; which state a step leads to is read in its source."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (state, what), step in TABLE.items():
        for target in sorted(_targets(step, set())):
            if target is not state:
                edges.setdefault((state, target), []).append(what.value)
    lines = ["stateDiagram-v2", "  [*] --> INIT"]
    return lines + [f"  {one} --> {other}: {'<br/>'.join(why)}" for (one, other), why in edges.items()]


def _targets(method: str, seen: set[str]) -> set[State]:
    """States that a method of Vhid changes to, itself or by one that it calls."""
    found: dict[State, None] = {}
    if method in seen or not hasattr(Vhid, method):
        return set()
    seen.add(method)
    function: Callable[..., Any] = getattr(Vhid, method)
    if not callable(function):
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
        if not (isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)):
            continue
        if call.func.value.id != "self":
            continue
        if call.func.attr == "_change" and isinstance(call.args[0], ast.Attribute):
            found[State[call.args[0].attr]] = None
        else:
            found |= dict.fromkeys(_targets(call.func.attr, seen))
    return set(found)


def carp_table() -> list[str]:
    states = [State.INIT, State.BACKUP, State.MASTER]
    inputs = list(dict.fromkeys(what for _state, what in TABLE))
    lines = ["| | " + " | ".join(map(str, states)) + " |", "|---" * (len(states) + 1) + "|"]
    for what in inputs:
        cells = [TABLE.get((state, what), "").strip("_").replace("_", " ") for state in states]
        lines.append(f"| {what.value} | {' | '.join(cells)} |")
    return lines


# --- roles ------------------------------------------------------------------------------------------------------------


def _run(facts: Facts, fail_at: int | None = None) -> list[Step]:
    """The steps of a change where all goes well, or where the step of this number fails."""
    steps: list[Step] = []
    plan = change(facts)
    try:
        step = next(plan)
        while True:
            steps.append(step)
            failed = "it failed" if len(steps) - 1 == fail_at else None
            step = plan.send(Answer(0.0, failed, give_up=None))
    except StopIteration:
        return steps


def role_chart(facts: Facts) -> list[str]:
    """The chain of steps; beside each what follows where it fails, if that is not the same."""
    good = _run(facts)
    lines = ["flowchart TD"]
    for number, step in enumerate(good):
        lines.append(f'  s{number}["{number + 1}. {_title(step)}"]')
        if number:
            lines.append(f"  s{number - 1} --> s{number}")
    ends: dict[str, str] = {}
    for number in range(len(good)):
        after = _run(facts, number)[number + 1 :]
        if [each.do for each in after] != [each.do for each in good[number + 1 :]]:
            text = _in_order([_title(each) for each in after]) or "nothing was changed"
            if text not in ends:
                ends[text] = f"f{number}"
                lines.append(f'  f{number}["{text}"]')
            lines.append(f"  s{number} -. fails .-> {ends[text]}")
    return lines


def _in_order(titles: Sequence[str]) -> str:
    """Several in one box, each with its letter."""
    if len(titles) < 2:
        return "".join(titles)
    return "<br/>".join(f"{chr(ord('a') + number)}) {title}" for number, title in enumerate(titles))


def _title(step: Step) -> str:
    return f"be {step.role}" if step.role is not None else str(step.do)


# --- the pages --------------------------------------------------------------------------------------------------------


def _mermaid(lines: Sequence[str]) -> list[str]:
    return ["```mermaid", *lines, "```", ""]


def diagrams() -> str:
    """All of it as a page."""
    promotion = Facts(Role.SECONDARY, Role.PRIMARY, 0.0, 20.0, arbitrated=True)
    demotion = Facts(Role.PRIMARY, Role.SECONDARY, 0.0, 20.0, serving=True, arbitrated=True, together=True)
    parts = [
        (
            "The handshake",
            "Two connections, four messages, and all fields they may have.",
            "format/handshake.py",
        ),
        ("Who may connect", "What a hastd makes of message 1 (no token) and 3 (with one).", "replication/accept.py"),
        ("Whose data are newer", "The secondary compares its counters with message 3.", "replication/table.py"),
        ("To primary", "From secondary, with an arbiter.", "supervisor/decisions/role_change.py"),
        ("To secondary", "From primary, with others of its pool.", "supervisor/decisions/role_change.py"),
        ("The virtual address", "States of a vhid. A step may leave the state as it is.", "election/carp_types.py"),
    ]
    drawn = [
        _mermaid(messages_chart()),
        _mermaid(accept_chart()),
        [*sources_table(), ""],
        _mermaid(role_chart(promotion)),
        _mermaid(role_chart(demotion)),
        [*_mermaid(carp_chart()), "The step for each input:", "", *carp_table(), ""],
    ]
    lines = [MADE, "# Diagrams", ""]
    for (title, text, source), content in zip(parts, drawn, strict=True):
        lines += [f"## {title}", "", f"{text} Drawn from `{source}`.", "", *content]
    return "\n".join(lines).rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {"problems.md": problems, "diagrams.md": diagrams}


def main(arguments: Sequence[str]) -> None:
    directory = Path(arguments[0]) if arguments else ROOT / "docs"
    for name, make in PAGES.items():
        (directory / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
