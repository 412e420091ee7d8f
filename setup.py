"""Adds hast/share (packaging/assemble.py) to what is built; everything else is in pyproject.toml."""

import importlib.util
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithShare(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        path = Path(__file__).resolve().parent / "packaging" / "assemble.py"
        spec = importlib.util.spec_from_file_location("assemble", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.assemble(Path(self.build_lib) / "hast" / "share")


setup(cmdclass={"build_py": BuildWithShare})
