"""The agent and the fence program as Pacemaker and hastd run them, beside a real hastd; the cluster's commands are
stand-ins that keep attributes in files. The real ones: tests/lab/test_pacemaker.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from daemon import Daemon

ROOT = Path(__file__).resolve().parents[2]
CRM_ATTRIBUTE = """#!/bin/sh
# Attributes are files in $CLUSTER; a promotion score is the attribute `score`.
name=score
while [ $# -gt 0 ]; do
	case $1 in
	--name) name=$2; shift ;;
	--node) node=$2; shift ;;
	--update) case $2 in -*) exit 64 ;; esac; action=update value=$2; shift ;;
	--update=*) action=update value=${1#--update=} ;;
	--delete) action=delete ;;
	--query) action=query ;;
	esac
	shift
done
file=$CLUSTER/$name${node:+@$node}
case $action in
update) echo "$value" >"$file" ;;
delete) rm -f "$file" ;;
query) [ -e "$file" ] || exit 105; cat "$file" ;;
esac
"""
CRM_MON = """#!/bin/sh
echo '<pacemaker-result><nodes><node name="east" online="true" unclean="false"/>'
cat $CLUSTER/other
echo '</nodes></pacemaker-result>'
"""


class Site:
    """One node's agent, its hastd, and the files that stand in for the cluster."""

    def __init__(self, hastd: Daemon, directory: Path) -> None:
        self.hastd = hastd
        self.directory = directory
        for name, text in (
            ("crm_attribute", CRM_ATTRIBUTE),
            ("crm_mon", CRM_MON),
            ("crm_node", "#!/bin/sh\necho east\n"),
        ):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        self.see_other(online=True, unclean=False)

    def see_other(self, *, online: bool, unclean: bool) -> None:
        said = f'<node name="west" online="{str(online).lower()}" unclean="{str(unclean).lower()}"/>\n'
        (self.directory / "other").write_text(said)

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.directory}:{os.environ['PATH']}"
        return {**self.hastd.environment, "PATH": path, "CLUSTER": str(self.directory)}

    def run(self, action: str, **parameters: str) -> subprocess.CompletedProcess[str]:
        given = {"resources": "disk1", "control": f"{self.hastd.directory}/ctl", "grace": "1", **parameters}
        environment = self.environment | {f"OCF_RESKEY_{name}": value for name, value in given.items()}
        argv = [sys.executable, str(ROOT / "packaging" / "pacemaker" / "hast"), action]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def code(self, action: str, **parameters: str) -> int:
        return self.run(action, **parameters).returncode

    def fence_peer(self, resource: str = "disk1") -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, str(ROOT / "packaging" / "pacemaker" / "pacemaker-fence-peer"), resource, "east"]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, timeout=90, check=False)

    def attribute(self, name: str) -> str:
        path = self.directory / name
        return path.read_text().strip() if path.exists() else ""


@pytest.fixture(scope="module")
def hastd() -> Iterator[Daemon]:
    """disk1 has metadata, disk2 has none."""
    with TemporaryDirectory(prefix="hd") as directory:
        daemon = Daemon(Path(directory) / "n", fake=False)
        nobody = "remote tcp4://127.0.0.1:9"
        daemon.write_config({"disk1": nobody, "disk2": nobody}, inside="wait-for-peer 1")
        assert daemon.hastctl("create", "disk1").returncode == 0
        try:
            yield daemon.start()
        finally:
            daemon.stop()
            daemon.end_orphans()


@pytest.fixture
def site(hastd: Daemon, tmp_path: Path) -> Iterator[Site]:
    yield Site(hastd, tmp_path)
    if hastd.process is not None and hastd.process.poll() is None:
        hastd.role("init", "all", force=True)


@pytest.fixture
def cluster(tmp_path: Path) -> Site:
    """Without a hastd that runs."""
    return Site(Daemon(tmp_path / "n"), tmp_path)


def test_an_instance_starts_is_promoted_demoted_and_stopped(site: Site) -> None:
    assert site.code("monitor") == 7
    assert site.code("start") == 0
    assert site.code("monitor") == 0
    assert site.attribute("score") == "100"
    assert site.code("start") == 0, "once more"
    (site.directory / "score").unlink()
    news = {"CRM_meta_notify_type": "post", "CRM_meta_notify_operation": "demote"}
    assert site.code("notify", **news) == 0
    assert site.attribute("score") == "", "a score that changes makes Pacemaker plan anew"
    assert site.code("notify", **{**news, "CRM_meta_notify_operation": "start"}) == 0
    assert site.attribute("score") == "100"
    assert site.code("promote") == 0
    assert site.code("monitor") == 8
    assert site.attribute("score") == "9500"
    assert site.code("promote") == 0, "once more"
    assert site.code("demote") == 0
    assert site.code("demote") == 0, "once more"
    assert site.code("stop") == 0
    assert site.attribute("score") == ""
    assert site.code("monitor") == 7
    assert site.code("stop") == 0, "once more"


def test_a_copy_without_metadata_is_not_promoted(site: Site) -> None:
    assert site.code("start", resources="disk2") == 0
    assert site.attribute("score") == "-INFINITY"
    refused = site.run("promote", resources="disk2")
    assert refused.returncode == 1
    assert "not good enough" in refused.stderr
    assert site.hastd.status("disk2")["role"] == "secondary"


def test_an_outdated_copy_is_not_promoted(site: Site) -> None:
    (site.directory / "hast-outdated-disk1@east").write_text("true\n")
    assert site.code("start") == 0
    assert site.attribute("score") == "-INFINITY"
    assert site.code("promote") == 1


def test_without_a_cluster_that_answers_nothing_is_promoted(site: Site) -> None:
    (site.directory / "crm_node").write_text("#!/bin/sh\necho Connection refused >&2; exit 102\n")
    assert site.code("start") == 0, "the role is true, whatever the cluster was told"
    refused = site.run("promote")
    assert refused.returncode == 1
    assert "crm_node: exit code 102: Connection refused" in refused.stderr


def test_a_wrong_configuration_is_told_as_such(site: Site) -> None:
    assert site.code("validate-all") == 0
    assert site.code("validate-all", resources="disk9") == 6
    assert site.code("start", resources="") == 6
    assert site.code("migrate_to") == 3


def test_the_note_of_an_outdated_peer_is_made_and_seen(cluster: Site) -> None:
    done = cluster.fence_peer()
    assert (done.returncode, done.stdout) == (0, "noted that west lacks writes of disk1\n")
    assert cluster.attribute("hast-outdated-disk1@west") == "true"
    assert cluster.attribute("hast-outdated-disk1@east") == ""


def test_a_peer_that_is_to_be_fenced_is_waited_for(cluster: Site) -> None:
    cluster.see_other(online=False, unclean=True)
    argv = [sys.executable, str(ROOT / "packaging" / "pacemaker" / "pacemaker-fence-peer"), "disk1", "east"]
    with subprocess.Popen(argv, env=cluster.environment, stdout=subprocess.PIPE, text=True) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        assert cluster.attribute("hast-outdated-disk1@west") == ""
        cluster.see_other(online=False, unclean=False)
        assert process.wait(20) == 0
    assert cluster.attribute("hast-outdated-disk1@west") == "true"


def test_a_dead_hastd_is_not_running_unless_its_workers_live(site: Site) -> None:
    assert site.code("start") == 0
    assert site.code("promote") == 0
    site.hastd.kill()
    assert site.code("monitor") == 1, "a probe is not told that nothing runs here"
    assert site.code("stop") == 1
    site.hastd.end_orphans()
    assert site.code("monitor") == 7
    assert site.code("stop") == 0
    site.hastd.start()
