"""Spark lines: small drawings in the text, made here, without any script.

Pure; threads: any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from crashfree.server.pages import figures

_WIDTH: Final = 120
_HEIGHT: Final = 30
_EDGE: Final = 2


def spark(values: Sequence[int], name: str) -> Markup:
    """Return a spark line with its figures in words; “—” when there is nothing to draw."""
    if not values or not any(values):
        return Markup('<span class="muted">{}</span>').format(figures.NO_DATA)
    top = max(values)
    span = max(1, len(values) - 1)
    points = [
        (
            _EDGE + place / span * (_WIDTH - 2 * _EDGE),
            _HEIGHT - _EDGE - value / top * (_HEIGHT - 2 * _EDGE),
        )
        for place, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    area = f"{points[0][0]:.1f},{_HEIGHT} {line} {points[-1][0]:.1f},{_HEIGHT}"
    words = f"{name}: {sum(values):,}, at most {top:,} in one of {len(values)} parts of the range"
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}"'
        ' preserveAspectRatio="none"><polygon points="{}"/><polyline points="{}"/></svg>'
    ).format(words, _WIDTH, _HEIGHT, _WIDTH, _HEIGHT, area, line)
