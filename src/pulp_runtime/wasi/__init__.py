"""Preview 1 of WASI over a tree of mounts, and nodes to mount that are ready-made (docs/reference/wasi.md).

machine = …                              the instance: its memory, its deadline
wasi = Preview1(machine)                 wasi.functions are bound to the module's imports
tree = Folder(); tree.add("/tmp", MemoryFolder(1 << 20))
wasi.begin(tree, stdin=…, stdout=…, stderr=…, args=["hello"], environ={})
…                                        `_start` runs
wasi.end(clean=True)
"""

from __future__ import annotations

from pulp_runtime.wasi.inherited import Inherited
from pulp_runtime.wasi.machine import Machine
from pulp_runtime.wasi.memory import MemoryFolder
from pulp_runtime.wasi.pipe import Pipe
from pulp_runtime.wasi.preview1 import MODULE, Preview1
from pulp_runtime.wasi.real import RealFolder

__all__ = ["MODULE", "Inherited", "Machine", "MemoryFolder", "Pipe", "Preview1", "RealFolder"]
