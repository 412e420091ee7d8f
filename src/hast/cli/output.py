"""The printed forms of status: the article's blocks, `list` with statistics, the one-line table (sections 9.3, 9.4).

Pure: objects of docs/control.md in, lines out.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from hast.format.geometry import human_size
from hast.watch.words import duration, moment, percent

_BAR_WIDTH = 30
_STATUS_WIDTH = 9
_TLS_IN = {"kernel": "the kernel", "kernel-tx": "the kernel (sending only)", "user": "user space"}
_DIRECTIONS = {"to-peer": "to the other node", "from-peer": "from the other node"}


def checked(path: str, resources: int) -> str:
    """What is said of a configuration file without mistakes."""
    if not resources:
        return f"{path}: no mistake found, but no resource for this node."
    return f"{path}: correct, {resources} resource{'' if resources == 1 else 's'} for this node."


def device_taken(survey: Iterable[tuple[str, str]]) -> str:
    """Which kind of device `auto` takes here, and why not those before it. `survey`: kinds and what each lacks."""
    passed: list[str] = []
    for kind, reason in survey:
        if not reason:
            return f"device auto: {kind}" + (f" ({'; '.join(passed)})" if passed else "")
        passed.append(f"not {kind}: {reason}")
    return f"device auto: none ({'; '.join(passed)})"


def tls_taken(missing: str) -> str:
    """Who makes the records of encrypted links here. `missing`: what keeps the kernel from it, or empty."""
    return f"tls in: user space (not the kernel: {missing})" if missing else "tls in: the kernel"


def sized(size_bytes: int) -> str:
    """`2097152 (2.0MB)`."""
    return f"{size_bytes} ({human_size(size_bytes)})"


def _failed(entry: dict[str, Any]) -> list[str]:
    return [f"{entry['name']}:", f"  error: {entry.get('code', 1)} ({str(entry['error']).rstrip('.')})"]


def shown_status(entry: dict[str, Any]) -> str:
    """The word of the one-line forms, which have no other place for a split brain."""
    return "split-brain" if entry.get("split_brain") else str(entry["status"])


def extents(count: int) -> str:
    """`1 extent`, `2 extents`."""
    return f"{count} extent{'' if count == 1 else 's'}"


def _head(entry: dict[str, Any]) -> list[str]:
    return [
        f"{entry['name']}:",
        f"  role: {entry['role']}",
        f"  provname: {entry['provname']}",
        f"  localpath: {entry['localpath']}",
        f"  extentsize: {sized(entry['extentsize'])}",
        f"  keepdirty: {entry['keepdirty']}",
        f"  remoteaddr: {entry['remoteaddr']}",
    ]


def _sync_lines(sync: dict[str, Any] | None) -> list[str]:
    if not sync:
        return []
    total, done = int(sync.get("total_bytes") or 0), int(sync.get("done_bytes") or 0)
    direction = str(sync.get("direction") or "")
    return [
        f"  synchronizing: {_DIRECTIONS.get(direction, direction)}",
        f"  done: {percent(sync):.1f}% ({human_size(done)} of {human_size(total)})",
        f"  rate: {human_size(int(sync.get('rate_bytes_s') or 0))}/s",
        f"  time left: {duration(sync.get('left_s'))}",
    ]


def _verify_lines(verify: dict[str, Any] | None) -> list[str]:
    return [f"  verifying: {verify_progress(verify)}"] if verify else []


def verify_progress(verify: Mapping[str, Any]) -> str:
    """How far a verification is."""
    share = verify["checked_bytes"] / max(1, verify["total_bytes"])
    return f"{100 * share:.1f}% compared, {sized(verify['differing_bytes'])} different"


def verify_in_words(last: Mapping[str, Any]) -> str:
    """What a verification found, for one line."""
    seconds = max(0, int(last["ended"]) - int(last["began"]))
    compared = f"{sized(last['checked_bytes'])} compared in {seconds} s"
    if last["outcome"] == "interrupted":
        share = f"{sized(last['checked_bytes'])} of {sized(last['total_bytes'])}"
        compared = f"interrupted ({last['reason']}), {share} compared"
    told = [compared]
    if last["differing_bytes"]:
        places = ", ".join(f"{offset}+{length}" for offset, length in last["ranges"])
        told.append(f"{sized(last['differing_bytes'])} different, at bytes {places}")
    elif last["outcome"] != "interrupted":
        told.append("both copies are equal")
    if last["repaired_bytes"]:
        told.append(f"{sized(last['repaired_bytes'])} of it written to the other node from this one")
    if last["unreadable_bytes"]:
        told.append(f"{sized(last['unreadable_bytes'])} could not be read")
    return "; ".join(told)


def _split_brain_lines(entry: dict[str, Any]) -> list[str]:
    """What differs, why nothing is done about it by itself, and the next step."""
    found = entry.get("split_brain")
    if not found:
        return []
    since = moment(found["since"])
    sides = ", ".join(f"{side} {_changed(found.get(side))}" for side in ("local", "peer"))
    lines = [f"  split-brain: since {since}, {sides}"]
    if found.get("differing_extents") is not None:
        size = human_size(found["differing_bytes"])
        lines.append(f"  differing: at most {extents(found['differing_extents'])} ({size})")
    if entry.get("discard_ordered"):
        lines.append("  resolution: this node's changes are discarded at the next connection")
        return lines
    if found.get("reason"):
        lines.append(f"  resolution: {found['reason']}")
    where = f"hastctl resolve --discard-local {' '.join(found.get('together') or [entry['name']])}"
    if entry["role"] == "primary":
        return [*lines, f"  next step: to keep this node's data, run on the other node: {where}"]
    return [*lines, f"  next step: to keep the other node's data, run here: {where}"]


def _changed(side: dict[str, Any] | None) -> str:
    if not side:
        return "not known"
    return f"{extents(side['extents'])} ({human_size(side['bytes'])})"


def resolve_lines(result: dict[str, Any]) -> list[str]:
    """What an order of `hastctl resolve` did."""
    name = result["name"]
    if "extents" not in result:
        return [f"{name}: the order was taken back; nothing is discarded."]
    where = "the order was given before" if result["already"] else f"the map of them is in {result['map']}"
    return [f"{name}: this node's changes in {_changed(result)} are discarded at the next connection; {where}."]


def _trouble_lines(entry: dict[str, Any]) -> list[str]:
    lines = _split_brain_lines(entry)
    told = "split-brain" if lines else None
    apart = entry.get("not_connected")
    if apart and not lines:
        told = "refused" if any(_says(each, "refused", apart["reason"]) for each in entry["problems"]) else None
        lines.append(f"  peer: not connected since {moment(int(apart['since']))}: {apart['reason'].rstrip('.')}")
    problems = entry.get("problems") or ()
    lines += [f"  problem: {each['kind']}: {each['text']}" for each in problems if each["kind"] != told]
    if entry.get("stopping"):
        lines.append("  stopping: hastd is stopping; no role is taken any more")
    if entry.get("transition"):
        lines.append(f"  changing: {entry['transition']}")
    return lines


def _says(problem: dict[str, Any], kind: str, text: str) -> bool:
    return bool(problem["kind"] == kind and problem["text"] == text)


def status_block(entry: dict[str, Any]) -> list[str]:
    """One resource as in the article; more lines only while it synchronises, changes, or something is wrong."""
    if entry.get("error"):
        return _failed(entry)
    lines = _head(entry)
    lines += [f"  replication: {entry['replication']}", f"  status: {entry['status']}"]
    lines.append(f"  dirty: {sized(entry['dirty'])}")
    if entry.get("tls") == "off":
        lines.append("  tls: off")
    return lines + _sync_lines(entry.get("sync")) + _verify_lines(entry.get("verify")) + _trouble_lines(entry)


def list_block(entry: dict[str, Any]) -> list[str]:
    """One resource with its statistics (section 9.4); lines of ours come after the reference's."""
    if entry.get("error"):
        return _failed(entry)
    lines = _head(entry)
    if entry.get("sourceaddr"):
        lines.append(f"  sourceaddr: {entry['sourceaddr']}")
    lines.append(f"  replication: {entry['replication']}")
    if entry["status"] != "-":
        lines.append(f"  status: {entry['status']}")
    if entry["workerpid"]:
        lines.append(f"  workerpid: {entry['workerpid']}")
    lines.append(f"  dirty: {sized(entry['dirty'])}")
    counted, queues = entry["statistics"], entry["queues"]
    errors = ", ".join(f"{name}: {counted[f'{name}_errors']}" for name in ("read", "write", "delete", "flush"))
    lines += [
        "  statistics:",
        f"    reads: {counted['reads']}",
        f"    writes: {counted['writes']}",
        f"    deletes: {counted['deletes']}",
        f"    flushes: {counted['flushes']}",
        f"    activemap updates: {counted['activemap_updates']}",
        f"    local errors: {errors}",
        "    queues: " + ", ".join(f"{name}: {queues[name]}" for name in ("local", "send", "recv", "done", "idle")),
    ]
    if entry.get("disk_cache") is not None:
        by = entry.get("disk_by")
        lines.append(f"  disk-cache: {'on' if entry['disk_cache'] else f'off, by {by}' if by else 'off'}")
    if entry.get("tls"):
        where = f", in {_TLS_IN[entry['tls_in']]}" if entry.get("tls_in") in _TLS_IN else ""
        lines.append(f"  tls: {entry['tls']}{where}")
    if entry.get("last_verify"):
        last = entry["last_verify"]
        lines.append(f"  last verify: {moment(last['ended'])}: {verify_in_words(last)}")
    return lines + _sync_lines(entry.get("sync")) + _verify_lines(entry.get("verify")) + _trouble_lines(entry)


def table(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The one-line form (section 9.3); words longer than the reference's make the column wider."""
    rows = list(entries)
    words = [shown_status(entry) for entry in rows if not entry.get("error")]
    width = 1 + max([len(word) for word in words] + [_STATUS_WIDTH - 1])
    heading = "Status\t Role\t\t" if width == _STATUS_WIDTH else f"{'Status':<{width}}{'Role':<15}"
    lines = [f"Name\t{heading}Components"] if rows else []
    for entry in rows:
        if entry.get("error"):
            lines.append(f"{entry['name']}\tERR{entry.get('code', 1)}")
        else:
            state = f"{shown_status(entry):<{width}}{entry['role']:<15}"
            lines.append(f"{entry['name']}\t{state}{entry['localpath']}\t{entry['remoteaddr']}")
    return lines


def watch_lines(entries: Iterable[dict[str, Any]], width: int | None = None) -> list[str]:
    """The live view: one line a resource, a bar while it synchronises, its problems below it."""
    columns = width or shutil.get_terminal_size((80, 24)).columns
    lines = []
    for entry in entries:
        if entry.get("error"):
            lines.append(f"{entry['name']}: {entry['error']}")
            continue
        lines.append(
            f"{entry['name']:<16} {entry['role']:<10} {shown_status(entry):<13} dirty {human_size(entry['dirty']):>6}"
            f"  {entry['replication']}  {entry['remoteaddr']}"
        )
        if entry.get("sync"):
            lines.append("  " + _bar(entry["sync"]))
        lines += _trouble_lines(entry)
    return [line[:columns] for line in lines]


def _bar(sync: dict[str, Any]) -> str:
    done = percent(sync)
    filled = int(_BAR_WIDTH * done / 100)
    arrow = "->" if sync.get("direction") == "to-peer" else "<-"
    rate = human_size(int(sync.get("rate_bytes_s") or 0))
    bar = "#" * filled + "." * (_BAR_WIDTH - filled)
    return f"{arrow} [{bar}] {done:5.1f}%  {rate}/s  {duration(sync.get('left_s'))} left"


def dump_block(metadata: Any) -> list[str]:
    """One metadata block (section 7.5). `metadata` is a replication.types.Metadata."""
    lines = [
        f"resource: {metadata.resource}",
        f"    datasize: {sized(metadata.datasize_bytes)}",
        f"    extentsize: {sized(metadata.extentsize_bytes)}",
        f"    keepdirty: {metadata.keepdirty}",
        f"    localoff: {metadata.offset_bytes}",
        f"    resuid: {metadata.resuid}",
        f"    localcnt: {metadata.localcnt}",
        f"    remotecnt: {metadata.remotecnt}",
        f"    prevrole: {metadata.prevrole}",
    ]
    if metadata.ahead_since_s:
        lines.append(f"    ahead since: {moment(metadata.ahead_since_s)}")
    marks = (
        ("inconsistent", metadata.inconsistent),
        ("stale", metadata.stale),
        ("discard ordered", metadata.discard),
    )
    return lines + [f"    {name}: yes" for name, is_set in marks if is_set]
