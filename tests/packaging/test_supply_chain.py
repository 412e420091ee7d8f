"""What the build takes in is pinned by hash, and what it gives out says what it is made of."""

from __future__ import annotations

import hashlib
import re
import runpy
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^(\S+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M)
DEPENDS = {"python3-hast": "python3:any, python3-lark (>= 1.1)", "hast": "openssl, zfs | ext4, python3-hast (= 1.0)"}
BUILDINFO = "Format: 1.0\nInstalled-Build-Depends:\n dpkg (= 1.21.22),\n python3-lark (= 1.1.5-1)\nEnvironment:\n X=\n"


def pins() -> dict[str, str]:
    return {name: version for name, version, _ in PIN.findall((ROOT / "requirements.lock").read_text())}


def test_every_line_of_the_lock_is_a_version_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    rest = PIN.sub("", text).splitlines()
    assert [line for line in rest if line and not line.startswith("#")] == []
    assert len(pins()) == text.count("==") > 10


def test_the_lock_has_what_pyproject_asks_for() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        configured = tomllib.load(file)
    extras = configured["project"]["optional-dependencies"]
    asked = [*configured["build-system"]["requires"], *configured["project"]["dependencies"]]
    asked += [each for name in extras if name != "accel" for each in extras[name] if not each.startswith("hast[")]
    for requirement in map(Requirement, asked):
        version = pins().get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement}: run scripts/lock"
        assert version in requirement.specifier, f"{requirement}, but {version}: run scripts/lock"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """Two small packages and the record of their build."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    for name, depends in DEPENDS.items():
        control = tmp_path / name / "DEBIAN/control"
        control.parent.mkdir(parents=True)
        fields = {"Package": name, "Version": "1.0+b1", "Architecture": "all", "Maintainer": "a <a@b.invalid>"}
        fields |= {"Depends": depends, "Description": "for a test"}
        control.write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        command = ["dpkg-deb", "-b", str(tmp_path / name), str(tmp_path / f"{name}.deb")]
        subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "hast_1.0_amd64.buildinfo").write_text(BUILDINFO)
    return tmp_path


@pytest.fixture
def bill() -> Callable[[Path], dict[str, Any]]:
    found: Callable[[Path], dict[str, Any]] = runpy.run_path(str(ROOT / "packaging/sbom.py"))["bill"]
    return found


def test_the_bill_names_packages_with_hashes_what_they_need_and_what_built_them(
    built: Path, bill: Callable[[Path], dict[str, Any]]
) -> None:
    told = bill(built)
    check_form(told)
    parts = {each["bom-ref"]: each for each in told["components"]}
    for name in DEPENDS:
        digest = hashlib.sha256((built / f"{name}.deb").read_bytes()).hexdigest()
        assert parts[name]["hashes"] == [{"alg": "SHA-256", "content": digest}]
        assert parts[name]["purl"] == f"pkg:deb/debian/{name}@1.0%2Bb1?arch=all"
    assert parts["python3-lark"]["version"] == "1.1.5-1"
    assert [parts[name]["scope"] for name in ("python3-lark", "openssl", "dpkg")] == [
        "required",
        "required",
        "excluded",
    ]
    needs = {each["ref"]: each["dependsOn"] for each in told["dependencies"]}
    assert needs["hast"] == ["openssl", "python3-hast", "zfs"]


def test_the_same_packages_give_the_same_bill(built: Path, bill: Callable[[Path], dict[str, Any]]) -> None:
    assert bill(built) == bill(built)


def test_a_folder_without_packages_is_refused(tmp_path: Path, bill: Callable[[Path], dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="no packages"):
        bill(tmp_path)


def check_form(told: dict[str, Any]) -> None:
    """What CycloneDX 1.5 asks of the parts that are used here."""
    assert (told["bomFormat"], told["specVersion"], told["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", told["serialNumber"])
    every = [told["metadata"]["component"], *told["components"]]
    known = [each["bom-ref"] for each in every]
    assert len(known) == len(set(known))
    for each in every:
        assert each["type"] in {"application", "library"}
        assert each["name"]
        assert each.get("scope", "required") in {"required", "optional", "excluded"}
    assert {name for each in told["dependencies"] for name in (each["ref"], *each["dependsOn"])} <= set(known)
