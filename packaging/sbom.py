"""Writes what the Debian packages are made of as CycloneDX JSON: the packages with their hashes, what they depend on,
and what built them.

    python3 packaging/sbom.py FOLDER OUTPUT

FOLDER is where dpkg-buildpackage left the packages and its .buildinfo. Needs dpkg and no network; the same packages
give the same file.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

LICENSE = [{"license": {"id": "BSD-2-Clause"}}]
BUILT_WITH = re.compile(r"^ (\S+) \(= (\S+)\),?$", re.M)
NAME = re.compile(r"^\s*([a-z0-9][a-z0-9+.-]+)")


def field(package: Path, name: str) -> str:
    """Raises CalledProcessError."""
    command = ["dpkg-deb", "--field", str(package), name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def depends(package: Path) -> list[str]:
    """The names in `Depends`; of alternatives the first."""
    named = (NAME.match(part) for part in field(package, "Depends").split(","))
    return sorted({found[1] for found in named if found})


def purl(name: str, version: str = "") -> str:
    return f"pkg:deb/debian/{name.replace('+', '%2B')}" + (f"@{version.replace('+', '%2B')}" if version else "")


def own(package: Path) -> dict[str, Any]:
    name, version = field(package, "Package"), field(package, "Version")
    return {
        "type": "application",
        "bom-ref": name,
        "name": name,
        "version": version,
        "description": field(package, "Description").splitlines()[0],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(package.read_bytes()).hexdigest()}],
        "licenses": LICENSE,
        "purl": f"{purl(name, version)}?arch={field(package, 'Architecture')}",
    }


def foreign(name: str, version: str, scope: str) -> dict[str, Any]:
    """`version` is empty where the package was not there at the build: any that satisfies `Depends` serves."""
    known = {"version": version} if version else {}
    return {"type": "library", "bom-ref": name, "name": name, **known, "scope": scope, "purl": purl(name, version)}


def bill(folder: Path) -> dict[str, Any]:
    """Raises CalledProcessError, ValueError when the folder holds no packages or not one .buildinfo."""
    packages = sorted(folder.glob("*.deb"))
    if not packages:
        raise ValueError(f"no packages in {folder}")
    (record,) = folder.glob("*.buildinfo")
    tools = dict(BUILT_WITH.findall(record.read_text().partition("Installed-Build-Depends:")[2]))
    ours = {each["name"]: each for each in map(own, packages)}
    needs = {field(package, "Package"): depends(package) for package in packages}
    needed = {name for names in needs.values() for name in names} - ours.keys()
    components = [
        *ours.values(),
        *(foreign(name, tools.get(name, ""), "required") for name in sorted(needed)),
        *(foreign(name, tools[name], "excluded") for name in sorted(tools.keys() - needed - ours.keys())),
    ]
    version = next(iter(ours.values()))["version"]
    top = {"type": "application", "bom-ref": "source", "name": "hast", "version": version, "licenses": LICENSE}
    seed = "".join(each["hashes"][0]["content"] for each in ours.values())
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, seed)}",
        "version": 1,
        "metadata": {"component": top},
        "components": components,
        "dependencies": [
            {"ref": "source", "dependsOn": sorted(ours)},
            *({"ref": name, "dependsOn": names} for name, names in needs.items()),
        ],
    }


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Path(sys.argv[2]).write_text(json.dumps(bill(Path(sys.argv[1])), indent=2) + "\n", encoding="utf-8")
