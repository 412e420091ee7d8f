"""A service that appends records to a file in the pool, and the client that writes to it through the shared address.

`records.py serve FILE PORT` runs on the master, as a unit that failover.conf names. A record is a number in a line of
its own; it is acknowledged when fsync(2) has returned. `records.py write HOST PORT FIRST` never gives up: it prints
each acknowledged number with the moment on the monotonic clock.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

CONNECT_S = 0.4
ANSWER_S = 1.0
PAUSE_S = 0.05
PACE_S = 0.02


def serve(path: str, port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    writing = threading.Lock()
    with socket.create_server(("", port)) as listener:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client, path, writing), daemon=True).start()


def _answer(client: socket.socket, path: str, writing: threading.Lock) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        with client, client.makefile("rwb", buffering=0) as stream:
            for line in stream:
                with writing:
                    os.write(descriptor, line)
                    os.fsync(descriptor)
                stream.write(line)
    except OSError as error:
        print(f"record not written: {error}", file=sys.stderr, flush=True)
    finally:
        os.close(descriptor)


def write(host: str, port: int, number: int) -> None:
    while True:
        try:
            with socket.create_connection((host, port), CONNECT_S) as server:
                server.settimeout(ANSWER_S)
                with server.makefile("rb") as answers:
                    while True:
                        server.sendall(f"{number}\n".encode())
                        if answers.readline() != f"{number}\n".encode():
                            raise ConnectionError("no acknowledgement")
                        print(number, f"{time.monotonic():.3f}", flush=True)
                        number += 1
                        time.sleep(PACE_S)
        except OSError:
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "serve":
        serve(words[0], int(words[1]))
    else:
        write(words[0], int(words[1]), int(words[2]))
