"""Packages as their users install them: wheels, in a virtual environment of their own, without a network."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def wheel(project: Path, into: Path) -> Path:
    """Return a wheel of the pure package at `project`: what a build back end makes of its pyproject.toml."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    stem = f"{about['name'].replace('-', '_')}-{about['version']}"
    groups = {"console_scripts": about.get("scripts", {}), **about.get("entry-points", {})}
    files = {
        file.relative_to(project / "src").as_posix(): file.read_bytes()
        for file in sorted((project / "src").rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
    }
    metadata = [f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in about["dependencies"]]
    points = [f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in named.items()) for group, named in groups.items()]
    info = f"{stem}.dist-info"
    files |= {
        f"{info}/METADATA": "\n".join(metadata).encode() + b"\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join(points).encode(),
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = into / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def link(requirements: list[str], site: Path) -> None:
    """Link distributions of this environment, and all they need, into another one's site-packages."""
    waiting, seen = list(map(Requirement, requirements)), set()
    while waiting:
        one = waiting.pop()
        if one.name in seen or (one.marker is not None and not one.marker.evaluate({"extra": ""})):
            continue
        seen.add(one.name)
        found = distribution(one.name)
        _link(found, site)
        waiting += map(Requirement, found.requires or ())


def _link(found: Distribution, site: Path) -> None:
    for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(str(found.locate_file(top)))


class Fresh:
    """A virtual environment with nothing of ours in it but what a test installs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=True)
        self.python = folder / "venv" / "bin" / "python"
        asked = [self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
        self.site = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
        self.environment = {"PATH": os.defpath, "HOME": str(folder), "PULP_CACHE_DIR": str(folder / "cache")}

    def install(self, *projects: Path) -> None:
        """Install wheels of these projects, with what Pulp needs, and pytest, linked from here."""
        needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        link([*needed, "pytest"], self.site)
        wheels = [wheel(project, self.folder) for project in projects]
        done = self.run("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *map(str, wheels))
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run its Python."""
        return subprocess.run(
            [self.python, *arguments],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fresh]:
    yield Fresh(tmp_path)
    shutil.rmtree(tmp_path / "venv")
