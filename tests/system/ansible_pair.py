"""Two bare Debians that Ansible reaches by ssh from the client's network."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from pair import ADDRESS, Pair

ROLE = Path(__file__).resolve().parents[2] / "contrib/ansible"
PLAY_S = 900
PASSWORD = "mypassword"


class Bare(Pair):
    """Nothing is set up yet but what Ansible needs: ssh with a key."""

    def _set_up(self) -> None:
        self.key = self.base / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        public = self.key.with_suffix(".pub").read_text()
        for machine in self.machines:
            machine.run("mkdir -p -m 700 /root/.ssh")
            machine.tell("/root/.ssh/authorized_keys", public)
            machine.run("systemctl start ssh")

    def learn_offset(self) -> None:
        """What `check` needs to compare copies."""
        dump = self.hast1.run("hastctl dump disk1").stdout
        self.offset_bytes = int(dump.split("localoff: ")[1].split()[0])

    def inventory(self, packages: Path, **more: Any) -> dict[str, Any]:
        """The README's pair, with the client's service; `more` variables of both hosts."""
        hosts = {
            machine.name: {"ansible_host": f"10.10.10.18{number}", "hast_remote": f"192.168.100.10{number - 1}"}
            for number, machine in enumerate(self.machines, 1)
        }
        disks = zip(("disk1", "disk2", "disk3"), ("/dev/sdb", "/dev/sdc", "/dev/sdd"), strict=True)
        variables = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self.base}/known -o StrictHostKeyChecking=no",
            "ansible_python_interpreter": "/usr/bin/python3",
            "hast_package_files": [str(next(packages.glob(f"{name}_*.deb"))) for name in ("python3-hast", "hast")],
            "hast_more_packages": ["zfs-fuse"],
            "hast_settings": {"timeout": 5},
            "hast_resources": [{"name": name, "local": disk} for name, disk in disks],
            "hast_vhids": [{"vhid": 1, "interface": "eth0", "address": f"{ADDRESS}/24", "password": PASSWORD}],
            "hast_pools": [{"name": "zhast", "type": "zfs", "layout": "raidz1", "settings": {"kill": 5}}],
            "hast_make_pools": True,
            "hast_failover_lines": ["service records.service"],
            **more,
        }
        return {"hast": {"hosts": hosts, "vars": variables}}

    def play(self, inventory: dict[str, Any], *options: str) -> Played:
        """One run of the role's playbook, from the client's network."""
        file = self.base / "inventory.json"
        file.write_text(json.dumps(inventory))
        assert self._client is not None
        argv = ["nsenter", f"--net=/proc/{self._client.pid}/ns/net", "ansible-playbook", "-i", str(file), *options]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.base), "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*argv, "pair.yml"],
            cwd=ROLE,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PLAY_S,
            check=False,
        )
        return Played(done)


class Played:
    """How a run went: `changed` tasks by host, `failed`, and what was said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.said = done.stdout + done.stderr
        counts = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", self.said, re.M)
        self.changed = {host: int(changed) for host, changed, _, _ in counts}
        self.failed = done.returncode != 0
        assert self.changed, self.said
