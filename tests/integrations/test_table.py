"""What users read is what is tested."""

from __future__ import annotations

import re

import crashfree_integrations
from tests.support.http_contract import CONTRACT


def test_the_table_in_the_documentation_is_the_contract() -> None:
    documentation = crashfree_integrations.__doc__
    assert documentation is not None
    row = r"^    (.+?) +(exited|errored|crashed) +(none|handled|unhandled)$"
    rows = re.findall(row, documentation, re.MULTILINE)
    assert rows == [(case.what, case.session, case.event) for case in CONTRACT]
