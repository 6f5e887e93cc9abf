"""crashfree: releases and release health for Python.

    import crashfree

    crashfree.init(release="myapp@1.0.0")

From then on the team knows how many sessions and users of that version ran free of crashes. Speaks
Sentry's protocol; brings a small server of its own (`crashfree serve`).

This is the lazy door: a name is imported when it is first asked for, so that `import crashfree`
costs next to nothing in a program that never starts it.
"""

import sys

from crashfree._version import __version__ as __version__

# Type checkers know the name; importing `typing` for it would cost more than all the rest.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from crashfree._api import add_breadcrumb as add_breadcrumb
    from crashfree._api import background_session as background_session
    from crashfree._api import capture_event as capture_event
    from crashfree._api import capture_exception as capture_exception
    from crashfree._api import capture_feedback as capture_feedback
    from crashfree._api import capture_message as capture_message
    from crashfree._api import close as close
    from crashfree._api import end_session as end_session
    from crashfree._api import enter_background as enter_background
    from crashfree._api import enter_foreground as enter_foreground
    from crashfree._api import flush as flush
    from crashfree._api import get_client as get_client
    from crashfree._api import get_current_scope as get_current_scope
    from crashfree._api import get_global_scope as get_global_scope
    from crashfree._api import get_isolation_scope as get_isolation_scope
    from crashfree._api import give_consent as give_consent
    from crashfree._api import init as init
    from crashfree._api import is_initialized as is_initialized
    from crashfree._api import isolation_scope as isolation_scope
    from crashfree._api import last_event_id as last_event_id
    from crashfree._api import navigate as navigate
    from crashfree._api import new_scope as new_scope
    from crashfree._api import pause_sessions as pause_sessions
    from crashfree._api import propagate_scope as propagate_scope
    from crashfree._api import resume_sessions as resume_sessions
    from crashfree._api import revoke_consent as revoke_consent
    from crashfree._api import session as session
    from crashfree._api import set_context as set_context
    from crashfree._api import set_extra as set_extra
    from crashfree._api import set_level as set_level
    from crashfree._api import set_tag as set_tag
    from crashfree._api import set_tags as set_tags
    from crashfree._api import set_transaction_name as set_transaction_name
    from crashfree._api import set_user as set_user
    from crashfree._api import start_session as start_session
    from crashfree._api import stats as stats
    from crashfree._client.client import Client as Client
    from crashfree.errors import ConfigurationError as ConfigurationError
    from crashfree.errors import CrashfreeError as CrashfreeError
    from crashfree.errors import IntegrationError as IntegrationError
    from crashfree.errors import InvalidDsn as InvalidDsn
    from crashfree.errors import InvalidRelease as InvalidRelease
    from crashfree.release import Release as Release

_ELSEWHERE = {
    "Client": "crashfree._client.client",
    "ConfigurationError": "crashfree.errors",
    "CrashfreeError": "crashfree.errors",
    "IntegrationError": "crashfree.errors",
    "InvalidDsn": "crashfree.errors",
    "InvalidRelease": "crashfree.errors",
    "Release": "crashfree.release",
}

__all__ = (
    "Client",
    "ConfigurationError",
    "CrashfreeError",
    "IntegrationError",
    "InvalidDsn",
    "InvalidRelease",
    "Release",
    "__version__",
    "add_breadcrumb",
    "background_session",
    "capture_event",
    "capture_exception",
    "capture_feedback",
    "capture_message",
    "close",
    "end_session",
    "enter_background",
    "enter_foreground",
    "flush",
    "get_client",
    "get_current_scope",
    "get_global_scope",
    "get_isolation_scope",
    "give_consent",
    "init",
    "is_initialized",
    "isolation_scope",
    "last_event_id",
    "navigate",
    "new_scope",
    "pause_sessions",
    "propagate_scope",
    "resume_sessions",
    "revoke_consent",
    "session",
    "set_context",
    "set_extra",
    "set_level",
    "set_tag",
    "set_tags",
    "set_transaction_name",
    "set_user",
    "start_session",
    "stats",
)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'crashfree' has no attribute {name!r}")
    home = _ELSEWHERE.get(name, "crashfree._api")
    value: object = getattr(sys.modules.get(home), name, None)
    if value is None:
        # Only now: a finalizer that strikes inside the import of something else must not import.
        # Not `importlib.import_module`: that loads `importlib` and `warnings`, half a millisecond.
        __import__(home)
        value = getattr(sys.modules[home], name)
    # Found once, it is an ordinary attribute: the door costs nothing from then on.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
