"""What uWSGI's settings mean for delivery.

Without `enable-threads` uWSGI lets no Python thread run between requests: what is queued goes out
while requests are served, or in `flush`. Without fork hooks and without lazy applications its
workers are forked behind Python's back: the integration is told by uWSGI itself, without it the
comparison of process ids notices that, at the first use only. Pure; threads: any. Source: wire.md
section 15.
"""

from __future__ import annotations

from collections.abc import Mapping


def complaint(modules: Mapping[str, object]) -> str | None:
    """Return what should be changed in uWSGI's settings; None when all is well, or no uWSGI runs.

    `modules` is `sys.modules`: uWSGI puts a module of its name there.
    """
    uwsgi = modules.get("uwsgi")
    options = getattr(uwsgi, "opt", None)
    if not isinstance(options, Mapping):
        return None
    on = {_text(name) for name, value in options.items() if _switched_on(value)}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if not on & {"enable-threads", "threads"}:
        return (
            "uWSGI runs without enable-threads: events wait until the next request or flush(); "
            "add 'enable-threads = true' to its settings"
        )
    told = {"lazy-apps", "lazy", "py-call-uwsgi-fork-hooks", "py-call-osafterfork"}
    if not on & told and not hasattr(uwsgi, "post_fork_hook"):
        return (
            "uWSGI forks its workers without telling Python; add 'lazy-apps = true' or "
            "'py-call-uwsgi-fork-hooks = true' to its settings"
        )
    return None


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _switched_on(value: object) -> bool:
    return _text(value).strip().lower() not in ("", "false", "off", "no", "0")
