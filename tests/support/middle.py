"""What lies between two nodes on loopback, in the place of a cable."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

from daemon import free_port


class Middle:
    """A host between the two that does as it likes with what passes; `hurt(data, towards_secondary, count)`."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.hurt: Callable[[bytes, bool], bytes] = lambda data, _towards: data
        self.is_pulled = False
        """As a cable is: what is open ends, and nothing comes through."""
        self.passed = bytearray()
        self._target = target
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._open = False
        self._server.close()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _where = self._server.accept()
                if self.is_pulled:
                    near.close()
                    continue
            except OSError:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            while self._open and not self.is_pulled:
                ready, _, _ = select.select([near, far], [], [], 0.2)
                for sock in ready:
                    try:
                        data = sock.recv(65536)
                        if not data:
                            return
                        self.passed += data
                        (far if sock is near else near).sendall(self.hurt(data, sock is near))
                    except OSError:
                        return
