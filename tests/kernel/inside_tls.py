"""Runs as the only program of a small virtual machine: links whose TLS records the kernel makes, by its module tls.

First single sessions with each cipher, in the kernel and in user space in turn; then two hastd with keys and a host
between them; then what each way of encryption costs. Each step prints one line; the host looks for the last.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path

from inside_node import Node, processes, run, step, until
from middle import Middle

from hast.format import metadata

PARTS = os.environ.get("PARTS", "ciphers pair spent figures").split()
SUCCESS = "KERNEL TLS: ALL STEPS PASSED"
CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
FIO = ("/sbin/fio", "--name=job", "--ioengine=nbd", "--thread")
SIZE_BYTES = 64 << 20
JOBS = {
    "4 KiB random writes, 32 under way (IOPS)": ("iops", "--rw=randwrite", "--bs=4k", "--iodepth=32"),
    "128 KiB writes, 8 under way (MiB/s)": ("bw", "--rw=write", "--bs=128k", "--iodepth=8"),
}
ROUNDS, RUN_S = 2, 3
OFF = {"HAST_KERNEL_TLS": "off"}
RETRY = {"HAST_RECONNECT_S": "2"}
FEW_RECORDS = {"HAST_TLS_RECORDS": "700"}
SPENT = "its keys are used up"
USERS = "root:x:0:0::/:/bin/sh\nhast-worker:x:990:990::/:/bin/sh\n"
LAST_RECORD = bytes.fromhex("1703030013")
"""The header of an alert: two bytes, their type and a tag."""


class Pair:
    """Two hastd on loopback, the first the primary; with keys, or `tls off`."""

    def __init__(self, number: int, *, secure: bool = True, middle: bool = False, kernel: bool = True) -> None:
        self.ports = (9000 + 2 * number, 9001 + 2 * number)
        self.middle = Middle(self.ports[1]) if middle else None
        self.nodes = [Node(2 * number + index, self._configuration(2 * number + index, index)) for index in (0, 1)]
        self.one, self.two = self.nodes
        for node in self.nodes:
            node.environment |= RETRY if kernel else RETRY | OFF
        if secure:
            prints = [node.hastctl("keygen").split()[1] for node in self.nodes]
            for node, own, theirs in zip(self.nodes, prints, reversed(prints), strict=True):
                head = f"on machine {{ fingerprint {own} }}\non other {{ fingerprint {theirs} }}\n"
                path = node.directory / "hast.conf"
                path.write_text(path.read_text() + head)
        for node in self.nodes:
            node.hastctl("create", "disk1")
            node.start()
        for node, role in ((self.two, "secondary"), (self.one, "primary")):
            node.hastctl("role", role, "disk1")
        self.settle()

    def _configuration(self, number: int, index: int) -> str:
        with Path(f"/tmp/disk{number}.img").open("wb") as file:
            file.truncate(SIZE_BYTES)
        towards = self.middle.port if self.middle is not None and index == 0 else self.ports[1 - index]
        return (
            f"listen tcp4://127.0.0.1:{self.ports[index]}\nresource disk1 {{\n\tdevice none\n\ttimeout 20\n"
            f"\ton machine {{\n\t\tlocal /tmp/disk{number}.img\n\t\tremote tcp4://127.0.0.1:{towards}\n\t}}\n"
            "\ton other {\n\t\tlocal /dev/null\n\t\tremote tcp4://127.0.0.1:1\n\t}\n}\n"
        )

    def status(self) -> list[dict[str, object]]:
        return [node.status("disk1")["disk1"] for node in self.nodes]

    def tls(self) -> list[object]:
        return [each["tls_in"] for each in self.status()]

    def settle(self) -> None:
        until("both to be in step", lambda: [each["status"] for each in self.status()] == ["complete"] * 2)

    def uri(self) -> str:
        return f"--uri=nbd+unix:///?socket={self.status()[0]['nbd_socket']}"

    def fio(self, *options: str, verify: bool = False) -> dict[str, object]:
        result = Path("/tmp/fio.json")
        words = [*FIO, self.uri(), f"--output={result}", "--output-format=json"]
        words += ["--unified_rw_reporting=1", "--allrandrepeat=0", "--randrepeat=0", *options]
        run(*words, *(["--verify=crc32c", "--verify_fatal=1"] if verify else []))
        text = result.read_text()
        return dict(json.loads(text[text.index("{") :])["jobs"][0]["mixed"])

    def write_and_compare(self) -> None:
        """What was written is read back from the primary, and both copies are equal."""
        self.fio("--rw=randwrite", "--bsrange=512-256k", "--bs_unaligned=0", "--iodepth=16", "--size=24m", verify=True)
        self.settle()
        first, second = (Path(f"/tmp/disk{number}.img").read_bytes() for number in self._numbers())
        begin = metadata.decode(first[:4096]).offset_bytes
        assert any(first[begin:]), "nothing was written"
        assert first[begin:] == second[begin:], "the copies differ"

    def _numbers(self) -> list[int]:
        return [int(node.directory.name.removeprefix("node")) for node in self.nodes]

    def end(self) -> None:
        for node in self.nodes:
            node.hastctl("role", "init", "disk1")
            node.stop()


def ciphers() -> None:
    for name in CIPHERS:
        conf = Path(f"/tmp/{name}.cnf")
        conf.write_text(f"openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nCiphersuites={name}\n")
        program = Path(__file__).with_name("inside_tls_session.py")
        state = Path("/tmp", name)
        environment = {**os.environ, "OPENSSL_CONF": str(conf), "HAST_STATE": str(state), "CIPHER": name}
        step(f"{name}: {run(sys.executable, str(program), environment=environment).strip()}")


def pair() -> None:
    made = Pair(1, middle=True)
    middle = made.middle
    assert middle is not None
    try:
        assert made.tls() == ["kernel", "kernel"], made.tls()
        made.write_and_compare()
        owner = Path("/proc", str(made.status()[0]["workerpid"])).stat().st_uid
        step(
            f"the kernel makes the records of both nodes, workers are user {owner}; writes are verified on both copies"
        )
        altered(made, middle)
        workers_and_hastd_killed(made)
        in_order(made, middle)
        mixed(made)
        made.end()
        for node in made.nodes:
            assert "Internal error" not in node.log(), node.log()
    except BaseException:
        for node in made.nodes:
            print(node.log()[-3000:])
        raise
    step("ended")


def altered(made: Pair, middle: Middle) -> None:
    def alter(data: bytes, towards_secondary: bool) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if towards_secondary and len(data) > 4000 else data

    words = "what arrived was changed on its way"
    middle.hurt = alter
    writing = subprocess.Popen(
        [*FIO, "--rw=write", "--bs=64k", "--size=8m", made.uri()],
        stdout=subprocess.DEVNULL,
    )
    until("the refusal", lambda: words in made.two.log())
    middle.hurt = lambda data, _towards: data
    assert writing.wait(120) == 0
    made.settle()
    made.write_and_compare()
    assert made.tls() == ["kernel", "kernel"]
    step(f"a byte was flipped on its way: {words!r}, connected again, equal")


def workers_and_hastd_killed(made: Pair) -> None:
    for node in made.nodes:
        before = node.status("disk1")["disk1"]["workerpid"]
        os.kill(int(str(before)), signal.SIGKILL)
        until("another worker", lambda node=node, before=before: _worker(node) not in (0, before))  # type: ignore[misc]
        made.settle()
        made.write_and_compare()
        assert made.tls() == ["kernel", "kernel"], made.tls()
    step("each worker was killed: its successor has a session of its own in the kernel")
    for node in made.nodes:
        before = _worker(node)
        node.kill()
        node.start()
        until("the worker to be taken over", lambda node=node: _worker(node))  # type: ignore[misc]
        assert _worker(node) == before
        made.settle()
        assert made.tls() == ["kernel", "kernel"], made.tls()
        made.write_and_compare()
    step("each hastd was killed: the next one took the workers over, and their sessions went on")


def _worker(node: Node) -> int:
    return int(str(node.status("disk1")["disk1"]["workerpid"]))


def in_order(made: Pair, middle: Middle) -> None:
    """Of what the primary sent on each connection, the last record is an alert."""
    last = {True: b"", False: b""}

    def note(data: bytes, towards_secondary: bool) -> bytes:
        last[towards_secondary] = (last[towards_secondary] + data)[-24:]
        return data

    middle.hurt = note
    made.one.hastctl("role", "init", "disk1")
    until("the secondary to see the end", lambda: made.status()[1]["connected"] is False)
    middle.hurt = lambda data, _towards: data
    assert last[True][:5] == LAST_RECORD, last
    made.one.hastctl("role", "primary", "disk1")
    made.settle()
    step("a connection is closed by an alert, which the other side takes for an end in order")


def mixed(made: Pair) -> None:
    """One side in the kernel, the other in user space."""
    for node, wanted in ((made.two, ["kernel", "user"]), (made.one, ["user", "user"])):
        _restart(node, node.environment | OFF)
        made.settle()
        until(f"{wanted}", lambda wanted=wanted: made.tls() == wanted)  # type: ignore[misc]
        made.write_and_compare()
    _restart(made.two, {name: value for name, value in made.two.environment.items() if name not in OFF})
    made.settle()
    until("the kernel again", lambda: made.tls() == ["user", "kernel"])
    made.write_and_compare()
    step("one node in the kernel, the other in user space, either way: equal")


def spent() -> None:
    """Keys in the kernel last for so many records: then another link follows, and clients go on."""
    made = Pair(5)
    for node in (made.two, made.one):
        _restart(node, node.environment | FEW_RECORDS)
    made.settle()
    for _ in range(2):
        made.write_and_compare()
    times = made.one.log().count(SPENT)
    assert times >= 2, made.one.log()
    assert made.tls() == ["kernel", "kernel"], made.tls()
    assert SPENT not in made.two.log(), "the primary is to come first"
    made.end()
    step(f"keys were used up {times} times: another link followed each time, and the copies are equal")


def _restart(node: Node, environment: dict[str, str]) -> None:
    role = str(node.status("disk1")["disk1"]["role"])
    node.hastctl("role", "init", "disk1")
    node.stop()
    node.environment = environment
    node.start()
    node.hastctl("role", role, "disk1")


def figures() -> None:
    pairs = {
        "plain": Pair(2, secure=False),
        "TLS in user space": Pair(3, kernel=False),
        "TLS in the kernel": Pair(4),
    }
    assert [pair.tls()[0] for pair in pairs.values()] == [None, "user", "kernel"]
    for pair in pairs.values():
        pair.fio("--rw=write", "--bs=1m", "--iodepth=4", "--size=48m")
    step("three pairs are up")
    for job, (unit, *options) in JOBS.items():
        found: dict[str, list[float]] = {name: [] for name in pairs}
        for _ in range(ROUNDS):
            for name, pair in pairs.items():
                report = pair.fio(*options, "--size=48m", "--time_based", f"--runtime={RUN_S}")
                found[name].append(float(str(report["iops" if unit == "iops" else "bw_bytes"])))
        scale = 1 if unit == "iops" else 1 << 20
        told = []
        for name, values in found.items():
            ratios = [value / plain for value, plain in zip(values, found["plain"], strict=True)]
            least, middle, most = min(ratios), statistics.median(ratios), max(ratios)
            told.append(f"{name} {statistics.median(values) / scale:.1f} ({middle:.2f}: {least:.2f}-{most:.2f})")
        step(f"{job}, ratio to plain round by round: {', '.join(told)}")
    for pair in pairs.values():
        pair.end()


def kernel_cipher() -> str:
    """Whose code the kernel takes for AES-GCM, or would."""
    found = []
    for block in Path("/proc/crypto").read_text().split("\n\n"):
        words = dict(line.split(":", 1) for line in block.splitlines() if ":" in line)
        told = {name.strip(): value.strip() for name, value in words.items()}
        if told.get("name") == "gcm(aes)":
            found.append((int(told["priority"]), told["driver"]))
    return max(found)[1] if found else "none yet"


def main() -> None:
    socket.sethostname("machine")
    Path("/etc/passwd").write_text(USERS)
    Path("/etc/group").write_text("root:x:0:\nhast-worker:x:990:\n")
    run("/bin/ip", "link", "set", "lo", "up")
    try:
        for part in PARTS:
            {"ciphers": ciphers, "pair": pair, "spent": spent, "figures": figures}[part]()
        assert not processes("hastd: disk1"), "a worker was left"
        step(f"the kernel's AES-GCM: {kernel_cipher()}")
        print("".join(f"  {line}\n" for line in Path("/proc/net/tls_stat").read_text().splitlines()), end="")
        step(SUCCESS)
    except BaseException:
        traceback.print_exc()
        time.sleep(1)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
