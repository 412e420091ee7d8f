"""A longer cable: a TCP relay that delivers each byte a while after it came, where the kernel has no netem.

    python -m bench.relay PORT TARGET_PORT DELAY_MS

Both ports are of 127.0.0.1; the delay is of one way. Order is kept, and no more than LIMIT_BYTES of a direction are
under way, so that a sender feels a slow receiver. Ends by a signal.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque

LIMIT_BYTES = 16 << 20
PIECE_BYTES = 256 << 10
LONGEST_SLEEP_S = 1.0


class Direction:
    """From one socket to the other. An empty piece is the end of the stream."""

    def __init__(self, source: socket.socket, sink: socket.socket, delay_s: float) -> None:
        self.source, self.sink = source, sink
        self._delay_s = delay_s
        self._pieces: deque[tuple[float, memoryview]] = deque()
        self._bytes = 0
        self.has_ended = self.is_done = False

    @property
    def may_read(self) -> bool:
        return not self.has_ended and self._bytes < LIMIT_BYTES

    @property
    def due_s(self) -> float | None:
        """When the next piece is to be delivered."""
        return self._pieces[0][0] if self._pieces else None

    def take(self, now_s: float) -> None:
        """Receive what is there."""
        try:
            data = self.source.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.has_ended = not data
        self._bytes += len(data)
        self._pieces.append((now_s + self._delay_s, memoryview(data)))

    def deliver(self, now_s: float) -> None:
        """Send what is due, as far as it is taken."""
        while self._pieces and self._pieces[0][0] <= now_s:
            due_s, piece = self._pieces.popleft()
            try:
                if not piece:
                    self.is_done = True
                    self.sink.shutdown(socket.SHUT_WR)
                    return
                sent = self.sink.send(piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.has_ended = self.is_done = True
                self._pieces.clear()
                return
            self._bytes -= sent
            if sent < len(piece):
                self._pieces.appendleft((due_s, piece[sent:]))
                return


def serve(listener: socket.socket, target_port: int, delay_s: float) -> None:
    """For ever."""
    pairs: list[tuple[Direction, Direction]] = []
    while True:
        directions = [direction for pair in pairs for direction in pair]
        now_s = time.monotonic()
        due = [direction.due_s for direction in directions if direction.due_s is not None]
        late = [each.sink for each in directions if each.due_s is not None and each.due_s <= now_s]
        sleep_s = min([at_s - now_s for at_s in due if at_s > now_s], default=LONGEST_SLEEP_S)
        wanted = [listener, *(direction.source for direction in directions if direction.may_read)]
        ready, _, _ = select.select(wanted, late, [], sleep_s)
        now_s = time.monotonic()
        if listener in ready:
            pairs += _accept(listener, target_port, delay_s)
        for direction in directions:
            if direction.source in ready:
                direction.take(now_s)
            direction.deliver(now_s)
        for pair in [pair for pair in pairs if all(direction.is_done for direction in pair)]:
            pairs.remove(pair)
            pair[0].source.close()
            pair[0].sink.close()


def _accept(listener: socket.socket, target_port: int, delay_s: float) -> list[tuple[Direction, Direction]]:
    near, _where = listener.accept()
    try:
        far = socket.create_connection(("127.0.0.1", target_port), timeout=1.0)
    except OSError:
        near.close()
        return []
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
    return [(Direction(near, far, delay_s), Direction(far, near, delay_s))]


def main() -> None:
    """The command line."""
    port, target_port, delay_ms = sys.argv[1:]
    with socket.create_server(("127.0.0.1", int(port))) as listener:
        serve(listener, int(target_port), float(delay_ms) / 1000)


if __name__ == "__main__":
    main()
