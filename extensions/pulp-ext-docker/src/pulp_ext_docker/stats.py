"""The daemon's counters as the contract's `Stats`."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pulp_ext_docker.messages import Stats, int64

_KEPT: Final = 1_000


class Counters:
    """Turns counters into numbers of now. From any thread.

    Processor time only grows: how much is used now is the difference to a moment before. The daemon gives two moments
    when it is asked for one container, which takes it a second; for many it is asked for one moment each, and the one
    before is what was asked the last time.
    """

    def __init__(self) -> None:
        self._before: Final[OrderedDict[str, Mapping[str, Any]]] = OrderedDict()
        self._lock: Final = threading.Lock()

    def stats(self, identity: str, name: str, counted: Mapping[str, Any]) -> Stats:
        """Return what `GET /containers/{id}/stats` says."""
        cpu = counted.get("cpu_stats") or {}
        before = counted.get("precpu_stats") or {}
        if not before.get("system_cpu_usage"):
            before = self._last(identity, cpu)
        memory = counted.get("memory_stats") or {}
        networks = (counted.get("networks") or {}).values()
        disk = (counted.get("blkio_stats") or {}).get("io_service_bytes_recursive") or ()
        return Stats(
            container_id=identity,
            name=name.removeprefix("/"),
            cpu_percent=_percent(cpu, before),
            memory_used=int64(_used(memory)),
            memory_limit=int64(int(memory.get("limit") or 0)),
            net_rx_bytes=int64(sum(int(network.get("rx_bytes") or 0) for network in networks)),
            net_tx_bytes=int64(sum(int(network.get("tx_bytes") or 0) for network in networks)),
            disk_read_bytes=int64(_moved(disk, "read")),
            disk_write_bytes=int64(_moved(disk, "write")),
            timestamp=int64(int(time.time())),
        )

    def _last(self, identity: str, cpu: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what was counted the last time, and keep what is counted now."""
        with self._lock:
            before = self._before.pop(identity, {})
            self._before[identity] = cpu
            if len(self._before) > _KEPT:
                self._before.popitem(last=False)
        return before


def _percent(cpu: Mapping[str, Any], before: Mapping[str, Any]) -> float:
    """Return how much of one processor was used, in percent; more than 100 with several."""
    used = _total(cpu) - _total(before)
    passed = int(cpu.get("system_cpu_usage") or 0) - int(before.get("system_cpu_usage") or 0)
    if not before.get("system_cpu_usage") or passed <= 0 or used < 0:
        return 0.0
    return used / passed * int(cpu.get("online_cpus") or 1) * 100.0


def _total(cpu: Mapping[str, Any]) -> int:
    return int((cpu.get("cpu_usage") or {}).get("total_usage") or 0)


def _used(memory: Mapping[str, Any]) -> int:
    """Return memory without what the system would give back: files it keeps at hand."""
    counted = memory.get("stats") or {}
    idle = int(counted.get("inactive_file") or counted.get("total_inactive_file") or 0)
    used = int(memory.get("usage") or 0)
    return used - idle if idle < used else used


def _moved(entries: Iterable[Mapping[str, Any]], operation: str) -> int:
    return sum(int(entry.get("value") or 0) for entry in entries if str(entry.get("op", "")).lower() == operation)
