"""Remote URLs and the names of repositories. Source: releases.md section 5.5."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crashfree.management import remotes
from tests.support.vectors import load

VECTORS = load("vcs_urls.json")
# Where the RULE of section 5.5 goes further than the recorded tool, or a URL names no host.
OURS = {
    "https://github.com/acme/widgets/": "acme/widgets",
    "https://github.com/acme/widgets.git/": "acme/widgets",
    "git@github.com:/acme/widgets.git": "acme/widgets",
    "https://bitbucket.example.com/scm/acme/widgets.git": "acme/widgets",
    "acme@vs-ssh.visualstudio.com:v3/acme/proj/widgets": "acme/proj",
    "codecommit::us-east-1://widgets": "widgets",
    "file:///srv/git/widgets.git": "widgets",
    "/srv/git/widgets.git": "widgets",
    "../widgets": "widgets",
    "C:/git/widgets.git": "widgets",
    "https://github.com/acme/.git": "acme",
    "https://GITHUB.COM/Acme/Widgets.GIT": "acme/widgets",
    "https://github.com/acme/widgets?x=1": "acme/widgets",
    "https://github.com/acme/widgets.git#main": "acme/widgets",
    "https://github.com//acme/widgets": "acme/widgets",
    "https://github.com/": "",
    "git@github.com:": "github.com",
}
OUR_MATCHES = {
    ("https://www.github.com/acme/widgets", "https://github.com/acme/widgets"): True,
    ("ssh://git@ssh.github.com:443/acme/widgets.git", "https://github.com/acme/widgets"): True,
    ("https://github.com/acme/widgets/", "https://github.com/acme/widgets"): True,
    ("https://github.com/acme/widgets.git/", "https://github.com/acme/widgets"): True,
    ("https://github.com//acme/widgets", "https://github.com/acme/widgets"): True,
    (
        "https://bitbucket.example.com/scm/acme/widgets.git",
        "https://bitbucket.example.com/projects/ACME/repos/widgets/browse",
    ): True,
    (
        "https://dev.azure.com/acme/proj/_git/repo1",
        "https://dev.azure.com/acme/proj/_git/repo2",
    ): False,
}


@pytest.mark.parametrize("case", VECTORS["ids"], ids=lambda case: case["url"])
def test_a_remote_has_the_recorded_name_or_the_better_one(case: dict[str, str]) -> None:
    expected = OURS.get(case["url"], case["repository"])
    assert remotes.parse(case["url"]).name == expected


@pytest.mark.parametrize(
    "case", VECTORS["matches"], ids=lambda case: f"{case['remote_url']} {case['repository_url']}"
)
def test_two_urls_name_the_same_repository_when_host_and_path_are_equal(
    case: dict[str, str | bool],
) -> None:
    one, other = str(case["remote_url"]), str(case["repository_url"])
    expected = OUR_MATCHES.get((one, other), case["match"])
    assert remotes.parse(one).same_as(remotes.parse(other)) == expected
    assert remotes.parse(other).same_as(remotes.parse(one)) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@github.com/acme/widgets.git",
        "https://user:s3cret@github.com/",
        "https://user:s3cret@github.com",
        "https://user:s3c/s3cret@github.com/acme/widgets",
        "https://user:p@s3cret@github.com/acme/widgets",
        "https://s3cret@github.com/acme/widgets",
        "codecommit::us-east-1://s3cret@widgets",
        "ssh://s3cret@host:22/a/b",
    ],
)
def test_credentials_of_a_url_reach_neither_name_nor_message(url: str) -> None:
    remote = remotes.parse(url)
    assert "s3c" not in "".join(str(part) for part in remote)
    assert "s3c" not in remotes.presentable(url)


def test_the_display_form_keeps_the_case() -> None:
    remote = remotes.parse("git@github.com:Acme/Widgets.git")
    assert (remote.name, remote.display) == ("acme/widgets", "Acme/Widgets")


def test_a_path_without_host_is_the_same_as_nothing() -> None:
    assert not remotes.parse("/srv/git/a.git").same_as(remotes.parse("/srv/git/a.git"))


@given(
    st.text(max_size=60),
    st.sampled_from(["", "https://h/", "https://u:p@h/", "git@h:", "ssh://h:22/"]),
)
def test_a_name_has_no_empty_part(text: str, beginning: str) -> None:
    remote = remotes.parse(beginning + text)
    assert not remote.name or "" not in remote.name.split("/")
    assert remote.name == remote.display.lower()
