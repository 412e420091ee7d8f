"""What hastd answers to `report` on the socket that only answers, for everybody who looks at once (docs/control.md).

One question at a time, each with a deadline; an answer is kept for KEEP_S, so that many who look cost hastd no more
than one. Never raises for a hastd that is not there: that is an answer too.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

from hast.config.host import this_host
from hast.daemon.conversation import ConversationError, receive_frame, send_frame
from hast.format import control, nv
from hast.format.constants import MAX_CONTROL_BODY_BYTES
from hast.watch.picture import Picture, read, unknown

KEEP_S = 1.0
DEADLINE_S = 8.0
"""hastd itself waits a few seconds for the other node; Prometheus gives a scrape up after 10 s."""
QUESTION = json.dumps({"command": "report", "peer": True})


class Source:
    """Of this node's hastd, behind `path`."""

    def __init__(self, path: Path, clock: Callable[[], float] | None = None) -> None:
        self._path = path
        self._clock = clock
        self._asking = asyncio.Lock()
        self._kept: tuple[float, Picture] | None = None

    async def picture(self) -> Picture:
        """Of both nodes, at most KEEP_S old when it was asked for."""
        async with self._asking:
            if self._kept is None or self._now() - self._kept[0] >= KEEP_S:
                picture = await self._ask()
                self._kept = self._now(), picture
            return self._kept[1]

    def _now(self) -> float:
        return self._clock() if self._clock is not None else asyncio.get_running_loop().time()

    async def _ask(self) -> Picture:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._exchange()
        except TimeoutError:
            error = f"hastd did not answer within {DEADLINE_S:g} s"
        except ConversationError as reason:
            error = f"hastd: {reason}"
        except OSError as reason:
            error = f"hastd cannot be asked at {self._path}: {reason.strerror or reason}"
        except ValueError as reason:
            error = f"hastd did not answer with a report: {reason}"
        return unknown(this_host().name, error)

    async def _exchange(self) -> Picture:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, str(self._path))
            await send_frame(sock, control.json_request(QUESTION), DEADLINE_S)
            message, _raw = await receive_frame(sock, MAX_CONTROL_BODY_BYTES, DEADLINE_S)
        reply = json.loads(message.nv.get("json", nv.NvType.STRING) or "null")
        if not isinstance(reply, dict):
            raise ValueError("it is no object")
        if reply.get("error"):
            raise ValueError(str(reply["error"]))
        return read(reply)
