"""Every error crashfree raises.

    CrashfreeError
    ├── ConfigurationError (also ValueError)   a wrong argument of init; nothing has changed yet
    │   ├── InvalidDsn
    │   ├── InvalidRelease                     with code, offending character, its index, suggestion
    │   └── IntegrationError                   a named integration cannot be installed
    ├── EnvelopeError                          an envelope that cannot be read
    ├── ApiError                               a server's refusal, with its own words
    └── Unreachable                            no HTTP answer at all

Running errors of the SDK never leave it (see `crashfree._client.guard`); these do, on purpose.
"""

from __future__ import annotations


class CrashfreeError(Exception):
    """Base of every error that crashfree raises."""

    def __reduce__(self) -> tuple[object, ...]:
        # Pickle would call the class with the message alone, which those with further arguments
        # refuse: an error raised in a pool's process would then hang or hide there.
        return _again, (type(self), self.args, self.__dict__)


def _again(
    kind: type[CrashfreeError], args: tuple[object, ...], state: dict[str, object]
) -> CrashfreeError:
    """Make the error that another process pickled."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(CrashfreeError, ValueError):
    """A setting that cannot be used; the message names the value, the rule and the remedy."""


class InvalidDsn(ConfigurationError):
    """A DSN that cannot be parsed; the message never holds the secret part."""


class InvalidRelease(ConfigurationError):
    """A release name that servers would refuse, or accept and then lose session data for."""

    code: str
    """`empty`, `too_long`, `restricted`, `bad_characters`, `bad_unicode` or `not_a_string`."""
    character: str | None
    """The first offending character; None when the name as a whole is the fault."""
    index: int | None
    """Where that character stands, counted from 0 in the text that was given."""
    suggestion: str | None
    """A valid name close to the one given; None when there is nothing to build on."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        character: str | None = None,
        index: int | None = None,
        suggestion: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.character = character
        self.index = index
        self.suggestion = suggestion


class IntegrationError(ConfigurationError):
    """An integration that was asked for by name and cannot be installed."""


class EnvelopeError(CrashfreeError):
    """Bytes that are no envelope.

    `code` is the wire specification's name of the fault: `empty_body`, `invalid_header`,
    `header_too_large`, `invalid_item_header`, `unexpected_eof`, `missing_newline`,
    `conflicting_items`, `too_large`.
    """

    code: str

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class ApiError(CrashfreeError):
    """An answer of the server that is not a success.

    `detail` holds the server's own words, `body` the decoded answer where it was JSON.
    """

    status: int
    detail: str
    body: object

    def __init__(self, status: int, detail: str, *, body: object = None) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.body = body


class Unreachable(CrashfreeError):
    """No HTTP answer: the name did not resolve, the connection failed, or time ran out.

    `sent` tells whether the request may have reached the server: False means that not one byte
    of it was written, so that sending it again cannot count anything twice.
    """

    sent: bool

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent
