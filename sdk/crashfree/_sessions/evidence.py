"""What the machine says about how processes end: boots, and processes killed for their memory.

`read` looks at the machine now; `record` keeps that look, and what a crash report must say about
this run, for the next start to compare.

Threads: any; reads small files below /proc and /sys. Source: sessions.md section 3.5.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from crashfree._ground import json
from crashfree._ground.typed import Any, Literal, NamedTuple, TypeAlias
from crashfree.types import SessionAttributes

FORMAT = "crashfree run 1"
_BOOT_ID = "proc/sys/kernel/random/boot_id"
_CGROUPS = "proc/self/cgroup"


Cause: TypeAlias = Literal["clean", "crashed", "killed", "out_of_memory", "reboot"]


class Evidence(NamedTuple):
    """A look at the machine."""

    boot_id: str | None = None
    """Changes with every boot; None where there is none to be read."""
    oom_kills: int | None = None
    """Processes of this control group killed for want of memory so far; None: not known."""
    group: str | None = None
    """The control group that this was counted in."""


class RunRecord(NamedTuple):
    """What a run said about itself when it began."""

    pid: int
    started: float
    evidence: Evidence
    attributes: SessionAttributes
    defaults: Mapping[str, Any]
    """What every event of that run would have said: release, environment, contexts, …"""
    clean: bool = False
    """Whether it came to its own end, and only left something untold."""


class Ending(NamedTuple):
    """How a run ended."""

    cause: Cause
    """`clean`, `crashed`, `killed`, `out_of_memory` or `reboot`."""
    signal: str | None = None
    """Name of the signal, as `SIGSEGV`, where faulthandler saw it."""
    at: float | None = None
    """When, in seconds since the epoch; the last sign of life where nothing better is known."""
    started: float | None = None
    pid: int | None = None
    release: str | None = None

    @property
    def crashed(self) -> bool:
        """Whether the program itself was at fault."""
        return self.cause == "crashed"


def read(root: str = "/") -> Evidence:
    """Look at the machine; `root` is where /proc and /sys are found."""
    boot_id = _text(os.path.join(root, _BOOT_ID))
    for group, path, key in _memory_files(root):
        found = _counter(path, key)
        if found is not None:
            return Evidence(boot_id, found, group)
    return Evidence(boot_id)


def run_record(
    attributes: SessionAttributes,
    evidence: Evidence,
    *,
    started: float,
    defaults: Mapping[str, Any],
    clean: bool = False,
) -> bytes:
    """Return the bytes of this run's record; `clean` when it ends and leaves something untold."""
    return encode_record(RunRecord(os.getpid(), started, evidence, attributes, defaults, clean))


def encode_record(record: RunRecord) -> bytes:
    """Return the record as JSON."""
    return json.encode(
        {
            "format": FORMAT,
            "pid": record.pid,
            "started": record.started,
            "boot_id": record.evidence.boot_id,
            "oom_kills": record.evidence.oom_kills,
            "group": record.evidence.group,
            "attributes": record.attributes,
            "defaults": record.defaults,
            "clean": record.clean,
        }
    )


def decode_record(data: bytes) -> RunRecord | None:
    """Read a dead run's record; None when it is none."""
    try:
        value: dict[str, Any] = json.decode(data)
        if value["format"] != FORMAT:
            return None
        kills = value["oom_kills"]
        return RunRecord(
            pid=int(value["pid"]),
            started=float(value["started"]),
            evidence=Evidence(
                value["boot_id"], None if kills is None else int(kills), value["group"]
            ),
            attributes=value["attributes"],
            defaults=dict(value["defaults"]),
            clean=bool(value["clean"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _memory_files(root: str) -> list[tuple[str, str, str]]:
    """Return (group, file, key) of the counters that may exist, the nearest first."""
    found: list[tuple[str, str, str]] = []
    base = os.path.join(root, "sys/fs/cgroup")
    for line in (_text(os.path.join(root, _CGROUPS)) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        inner = group.lstrip("/")
        if not controllers:
            for where in (inner, ""):
                found.append((group, os.path.join(base, where, "memory.events"), "oom_kill"))
        elif "memory" in controllers.split(","):
            for where in (inner, ""):
                path = os.path.join(base, "memory", where, "memory.oom_control")
                found.append((group, path, "oom_kill"))
    return found


def _counter(path: str, key: str) -> int | None:
    for line in (_text(path) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return None


def _text(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, 1 << 16).decode("utf-8", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
