"""Stands in for hast.worker.worker in tests of the supervisor: speaks worker/messages.py and does as its orders say.

Orders (a JSON object in $FAKE_WORKER_ORDERS/RESOURCE): refuse: text; exit: code for a refusal; die_after_s, die_with;
ready_after_s; ignore_stop; ignore_status; status: object merged into the answer; events: list of names; ask: question.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from hast.daemon.paths import file_stem
from hast.worker import messages


def read_orders(name: str) -> dict[str, Any]:
    try:
        orders = json.loads((Path(os.environ["FAKE_WORKER_ORDERS"]) / file_stem(name)).read_text())
    except FileNotFoundError:
        return {}
    assert isinstance(orders, dict)
    return orders


def note(name: str, record: dict[str, Any]) -> None:
    """Leave a line for the test."""
    with (Path(os.environ["FAKE_WORKER_ORDERS"]) / f"{file_stem(name)}.seen").open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), **record}) + "\n")


def main(arguments: list[str]) -> int:
    control = socket.socket(fileno=int(arguments[0]))
    control.setblocking(True)
    start, descriptors = messages.receive(control)
    if start is None:
        return 0
    name = start["resource"]["name"]
    orders = read_orders(name)
    note(name, {"start": start, "descriptors": len(descriptors)})
    if orders.get("ignore_stop"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "refuse" in orders:
        messages.send(control, {"say": "refused", "text": orders["refuse"], "exit": orders.get("exit", 65)})
        return int(orders.get("exit", 65))
    time.sleep(orders.get("ready_after_s", 0))
    messages.send(control, {"say": "ready", "datasize": 1 << 20, "sectorsize": 512})
    for event in orders.get("events", ()):
        messages.send(control, {"say": "event", "name": event, "text": f"event {event}", "level": "info"})
    if "ask" in orders:
        messages.send(control, {"say": "ask", "question": orders["ask"]})
    if "die_after_s" in orders:
        time.sleep(orders["die_after_s"])
        if orders.get("die_with", -9) < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return int(orders["die_with"])
    return serve(control, name, orders)


def serve(control: socket.socket, name: str, orders: dict[str, Any]) -> int:
    while True:
        message, _ = messages.receive(control)
        if message is None:
            return 0
        note(name, {"message": message})
        if message["do"] == "stop" and not orders.get("ignore_stop"):
            return 0
        if message["do"] == "status" and not orders.get("ignore_status"):
            status = {"status": "degraded", "dirty": 0, "extentsize": 2097152, "keepdirty": 64, "datasize": 1 << 20}
            messages.send(control, {"reply": message["id"], "status": status | orders.get("status", {})})
        elif message["do"] in ("reload", "sync-rate", "answer", "freeze", "thaw", "leave", "may-change-disk"):
            messages.send(control, {"reply": message["id"], "error": None})
        elif message["do"] == "withhold":
            messages.send(control, {"reply": message["id"], "error": None, "quiet": True})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
