"""The official normaliser as a judge of our events, where it is installed.

Source: wire.md section 22.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

try:
    from sentry_relay import processing as relay
except ImportError:  # no build for this Python or machine: our own checks still count
    relay = None


def complaints(payload: bytes) -> list[str]:
    """Return what a server would find wrong with an event; our own checks first."""
    event = strictly(payload)
    found: list[str] = []
    if len(payload) > 1_000_000:
        found.append(f"{len(payload)} bytes")
    if relay is None:
        return found
    for trimming in (False, True):
        result = relay.StoreNormalizer(
            enable_trimming=trimming,
            received_at=datetime.now(timezone.utc).isoformat(),
            remove_other=True,
        ).normalize_event(raw_event=payload)
        found += [f"error {error}" for error in result.get("errors") or ()]
        before = dict(_notes(event.get("_meta") or {}, ""))
        for path, note in _notes(result.get("_meta") or {}, ""):
            if "err" in note:
                found.append(f"{path}: {note}")
            own = before.get(path, {})
            if trimming and ".vars" in path:
                # 2 KiB a frame, says this server; others keep more, and so do we.
                continue
            if trimming and note.get("len") != own.get("len"):
                found.append(f"cut by the server at {path}: {note}")
            found += [
                f"remark of the server at {path}: {remark}"
                for remark in note.get("rem") or ()
                if list(remark) not in [list(one) for one in own.get("rem") or ()]
            ]
    return found


def strictly(payload: bytes) -> Any:
    """Return what the payload says; fails for what a strict reader refuses."""

    def refuse(constant: str) -> Any:
        raise AssertionError(f"{constant} is not JSON")

    text = payload.decode("utf-8", "strict")
    event = json.loads(text, parse_constant=refuse)
    # A lone surrogate, escaped or not, makes servers refuse the whole event.
    json.dumps(event, ensure_ascii=False).encode("utf-8", "strict")
    return event


def _notes(tree: dict[str, Any], path: str) -> Any:
    for key, below in tree.items():
        if key == "":
            yield path, below
        elif isinstance(below, dict):
            yield from _notes(below, f"{path}.{key}")
