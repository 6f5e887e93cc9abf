"""`init` spells every option; `Options` holds every one; the two cannot drift."""

from __future__ import annotations

import inspect

import crashfree
from crashfree._client.options import RESOLVED_FIELDS, Options

PARTS = ("transport", "integrations")
# Where an argument of None means "ask the environment" or "take the default".
ASKS_ENVIRONMENT = {
    "dsn", "environment", "server_name", "project_root", "spool_dir", "keep_alive", "spotlight",
    "debug", "disabled_integrations",
}  # fmt: skip


def parameters() -> list[inspect.Parameter]:
    signature = inspect.signature(crashfree.init)
    return [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]


def test_init_and_options_have_the_same_names_in_the_same_order() -> None:
    names = [p.name for p in parameters()]
    assert names == [name for name in Options._fields if name not in RESOLVED_FIELDS] + list(PARTS)


def test_init_and_options_have_the_same_defaults() -> None:
    for parameter in parameters():
        if parameter.name in PARTS:
            continue
        default = Options._field_defaults[parameter.name]
        if parameter.default is None:
            assert parameter.name in ASKS_ENVIRONMENT or default is None, parameter.name
        else:
            assert parameter.default == default, parameter.name


def test_every_option_is_explained_by_help() -> None:
    text = inspect.getdoc(crashfree.init) or ""
    for parameter in parameters():
        assert parameter.name in text, parameter.name


def test_every_option_has_a_rule() -> None:
    from crashfree._client.options import _CHECKS

    assert list(_CHECKS) == [name for name in Options._fields if name not in RESOLVED_FIELDS]
