"""`_meta`: what was cut or hidden in an event, and where.

A path is a linked tuple, `(parent, key)` with None for the event itself, so that a walk pays for
it only where something was cut. Threads: one at a time. Source: wire.md section 8.3.
"""

from __future__ import annotations

from crashfree._ground.typed import Any, TypeAlias

Path: TypeAlias = "tuple[Path, str | int] | None"

TOO_LONG = "!limit"
BY_CONFIGURATION = "!config"
FILTERED = "[Filtered]"


class Notes:
    """Remarks by path, in the shape of the event."""

    __slots__ = ("tree",)
    tree: dict[str, Any]

    def __init__(self, tree: dict[str, Any] | None = None) -> None:
        self.tree = {} if tree is None else tree

    def shortened_text(self, path: Path, length: int, end: int) -> None:
        """Note that a text of `length` bytes was cut to `end` bytes, the dots included."""
        note = self._at(path)
        note.setdefault("len", length)
        _remark(note, [TOO_LONG, "x", end - 3, end])

    def shortened(self, path: Path, length: int) -> None:
        """Note that a container had `length` entries."""
        note = self._at(path)
        note.setdefault("len", length)

    def removed(self, path: Path) -> None:
        """Note that a value was taken out because the event was too large."""
        _remark(self._at(path), [TOO_LONG, "x"])

    def filtered(self, path: Path) -> None:
        """Note that a value was replaced for the sake of privacy."""
        _remark(self._at(path), [BY_CONFIGURATION, "s"])

    def graft(self, path: Path, tree: dict[str, Any]) -> None:
        """Put notes made elsewhere below `path`."""
        node = self.tree
        for key in _keys(path):
            node = node.setdefault(key, {})
        node.update(tree)

    def forget(self, path: Path) -> None:
        """Drop the notes on a part of the event that is not there any more."""
        keys = _keys(path)
        node = self.tree
        for key in keys[:-1]:
            below = node.get(key)
            if below is None:
                return
            node = below
        node.pop(keys[-1], None)

    def _at(self, path: Path) -> dict[str, Any]:
        node = self.tree
        for key in _keys(path):
            node = node.setdefault(key, {})
        return node.setdefault("", {})  # type: ignore[no-any-return]


def _keys(path: Path) -> list[str]:
    keys: list[str] = []
    while path is not None:
        path, key = path
        keys.append(str(key))
    keys.reverse()
    return keys


def _remark(note: dict[str, Any], remark: list[Any]) -> None:
    remarks = note.setdefault("rem", [])
    if remark not in remarks:
        remarks.append(remark)
