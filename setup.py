"""Adds hast/share (packaging/assemble.py) to what is built, and compiles (packaging/compiled.py) where that is asked
for; everything else is in pyproject.toml."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGING = Path(__file__).resolve().parent / "packaging"


def packaging(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PACKAGING / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildWithShare(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            packaging("assemble").assemble(Path(self.build_lib) / "hast" / "share")


wants_compiled = os.environ.get(packaging("compiled").VARIABLE) == "1"
setup(
    cmdclass={"build_py": BuildWithShare},
    ext_modules=packaging("compiled").extensions() if wants_compiled else [],
)
