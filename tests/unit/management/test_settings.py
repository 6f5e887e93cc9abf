"""Where settings come from, and where a token must not go. Source: releases.md section 5.2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from crashfree.errors import ConfigurationError
from crashfree.management.settings import (
    MissingSetting,
    Settings,
    UntrustedAddress,
    resolve,
)
from tests.unit.management.test_tokens import organization_token

TOKEN = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


class Place:
    """A home, a project below another directory, and an environment."""

    def __init__(self, base: Path) -> None:
        self.home = base / "home"
        self.project = base / "work" / "project"
        self.variables: dict[str, str] = {}
        self.home.mkdir(parents=True)
        self.project.mkdir(parents=True)

    def settings(self, **flags: str) -> Settings:
        return resolve(
            flags, variables=self.variables, directory=str(self.project), home=str(self.home)
        )

    def rc(self, directory: Path, name: str = ".sentryclirc", **values: str) -> None:
        sections: dict[str, list[str]] = {}
        for key, value in values.items():
            section, _, field = key.partition("_")
            sections.setdefault(section, []).append(f"{field}={value}")
        lines = [
            line for section, entries in sections.items() for line in (f"[{section}]", *entries)
        ]
        (directory / name).write_text("\n".join(lines))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_places_are_asked_in_order(place: Place) -> None:
    """Each place overrules those behind it, setting by setting."""
    place.rc(place.home, defaults_org="home")
    assert place.settings().text("org") == "home"
    if sys.version_info >= (3, 11):
        (place.project / "pyproject.toml").write_text('[tool.crashfree]\norg = "toml"\n')
        assert place.settings().text("org") == "toml"
    place.rc(place.project, defaults_org="rc")
    assert place.settings().text("org") == "rc"
    (place.project / "p.properties").write_text("defaults.org=properties")
    place.variables["SENTRY_PROPERTIES"] = "p.properties"
    assert place.settings().text("org") == "properties"
    (place.project / ".env").write_text("SENTRY_ORG=dotenv")
    assert place.settings().text("org") == "dotenv"
    place.variables["SENTRY_ORG"] = "variable"
    assert place.settings().text("org") == "variable"
    place.variables["CRASHFREE_ORG"] = "own"
    assert place.settings().text("org") == "own"
    (place.project / "named.env").write_text("SENTRY_ORG=named")
    place.variables["SENTRY_DOTENV_PATH"] = "named.env"
    assert place.settings().text("org") == "named"
    assert place.settings(org="flag").text("org") == "flag"
    wheres = [value.origin.where for value in place.settings(org="flag").all("org")]
    assert wheres[0] == "--org"
    assert wheres[-1] == str(place.home / ".sentryclirc")


def test_the_nearest_file_upwards_is_taken(place: Place) -> None:
    place.rc(place.project.parent, defaults_org="parent")
    assert place.settings().text("org") == "parent"
    place.rc(place.project, name="sentrycli.ini", defaults_org="near")
    assert place.settings().text("org") == "near"


@pytest.mark.parametrize("blank", ["", "   ", "\n"])
def test_blank_counts_as_not_set(place: Place, blank: str) -> None:
    place.variables.update(
        {"CRASHFREE_ORG": blank, "SENTRY_ORG": "acme", "SENTRY_URL": blank, "SENTRY_PROJECT": blank}
    )
    settings = place.settings(org=blank)
    assert settings.text("org") == "acme"
    assert settings.get("url") is None
    assert settings.projects() == ()


def test_several_projects_stand_in_one_variable(place: Place) -> None:
    place.variables["SENTRY_PROJECT"] = "web, api worker"
    assert place.settings().projects() == ("web", "api", "worker")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no TOML reader before 3.11")
def test_a_project_table_names_projects_but_no_secret(place: Place) -> None:
    (place.project / "pyproject.toml").write_text(
        '[tool.crashfree]\norg = "acme"\nprojects = ["web", "api"]\nauth-token = "x"\nnew = 1\n'
    )
    settings = place.settings()
    assert settings.projects() == ("web", "api")
    assert settings.get("token") is None
    assert any("secret" in note for note in settings.notes)


def test_a_project_file_that_is_no_toml_is_a_note(place: Place) -> None:
    (place.project / "pyproject.toml").write_text("[tool.crashfree]\norg = \n")
    settings = place.settings()
    assert settings.get("org") is None
    assert len(settings.notes) == 1
    assert "pyproject.toml" in settings.notes[0]


def test_a_project_file_without_our_table_is_not_read(place: Place) -> None:
    (place.project / "pyproject.toml").write_text("[project]\nname = \n")
    assert place.settings().notes == []


def test_a_missing_token_is_told_with_the_remedy(place: Place) -> None:
    with pytest.raises(MissingSetting) as caught:
        place.settings().connection()
    assert caught.value.code == "missing_token"
    assert "CRASHFREE_AUTH_TOKEN" in caught.value.remedy


def test_the_default_server_is_the_public_one(place: Place) -> None:
    place.variables["SENTRY_AUTH_TOKEN"] = TOKEN
    assert place.settings().connection().url.text == "https://sentry.io"


class TestSafety:
    """A repository's own file can never send the user's token to another host."""

    @pytest.mark.parametrize("kind", ["rc", "ini", "properties", "dotenv", "pyproject", "named"])
    def test_a_token_of_the_environment_stays_away_from_an_address_of_the_project(
        self, place: Place, kind: str
    ) -> None:
        place.variables["SENTRY_AUTH_TOKEN"] = TOKEN
        self.write_url(place, kind)
        if kind == "pyproject" and sys.version_info < (3, 11):
            pytest.skip("no TOML reader before 3.11")
        with pytest.raises(UntrustedAddress) as caught:
            place.settings().connection()
        assert "https://evil.example" in str(caught.value)
        assert "--url https://evil.example" in caught.value.remedy
        assert TOKEN not in str(caught.value)

    @staticmethod
    def write_url(place: Place, kind: str) -> None:
        url = "https://evil.example"
        if kind == "rc":
            place.rc(place.project, defaults_url=url)
        elif kind == "ini":
            place.rc(place.project.parent, name="sentrycli.ini", defaults_url=url)
        elif kind == "properties":
            (place.project / "x.properties").write_text(f"defaults.url={url}")
            place.variables["SENTRY_PROPERTIES"] = "x.properties"
        elif kind == "dotenv":
            (place.project / ".env").write_text(f"SENTRY_URL={url}")
        elif kind == "named":
            (place.project / "x.env").write_text(f"CRASHFREE_URL={url}")
            place.variables["CRASHFREE_DOTENV_PATH"] = "x.env"
        else:
            (place.project / "pyproject.toml").write_text(f'[tool.crashfree]\nurl = "{url}"\n')

    @pytest.mark.parametrize("where", ["home", "flag"])
    def test_so_does_a_token_of_the_home_directory_and_of_a_flag(
        self, place: Place, where: str
    ) -> None:
        place.rc(place.project, defaults_url="https://evil.example")
        flags = {"token": TOKEN} if where == "flag" else {}
        if where == "home":
            place.rc(place.home, auth_token=TOKEN)
        with pytest.raises(UntrustedAddress):
            place.settings(**flags).connection()

    def test_the_user_can_vouch_for_the_address(self, place: Place) -> None:
        place.rc(place.project, defaults_url="https://self.example/")
        place.variables["SENTRY_AUTH_TOKEN"] = TOKEN
        place.rc(place.home, defaults_url="HTTPS://self.example")
        assert place.settings().connection().url.text == "https://self.example/"

    def test_the_projects_own_token_may_go_to_the_projects_own_address(self, place: Place) -> None:
        place.rc(place.project, auth_token=TOKEN, defaults_url="https://self.example")
        assert place.settings().connection().token.text == TOKEN

    def test_the_users_token_wins_over_the_projects_and_is_then_kept_from_its_address(
        self, place: Place
    ) -> None:
        place.rc(place.project, auth_token=OTHER, defaults_url="https://evil.example")
        place.variables["SENTRY_AUTH_TOKEN"] = TOKEN
        with pytest.raises(UntrustedAddress):
            place.settings().connection()

    def test_the_public_server_needs_no_vouching(self, place: Place) -> None:
        place.rc(place.project, defaults_url="https://sentry.io/")
        place.variables["SENTRY_AUTH_TOKEN"] = TOKEN
        assert place.settings().connection().url.text == "https://sentry.io/"

    def test_a_proxy_of_the_project_never_sees_the_users_token(self, place: Place) -> None:
        place.rc(place.project, http_proxy_url="http://evil.example:3128")
        place.variables["SENTRY_AUTH_TOKEN"] = TOKEN
        settings = place.settings()
        assert settings.get("proxy") is None
        assert "proxy" in settings.notes[0]
        place.variables["SENTRY_AUTH_TOKEN"] = ""
        place.rc(place.project, auth_token=OTHER, http_proxy_url="http://p:3128")
        assert place.settings().text("proxy") == "http://p:3128"

    def test_a_file_found_in_the_home_directory_itself_is_the_users(self, place: Place) -> None:
        inside = place.home / "project"
        inside.mkdir()
        place.rc(place.home, defaults_url="https://self.example", auth_token=TOKEN)
        settings = resolve(variables={}, directory=str(inside), home=str(place.home))
        assert settings.connection().url.origin.yours


class TestOrganizationTokens:
    def test_address_and_organization_come_from_the_token(self, place: Place) -> None:
        place.variables["SENTRY_AUTH_TOKEN"] = organization_token(url="https://o.example", org="a")
        connection = place.settings().connection()
        assert connection.url.text == "https://o.example"
        assert connection.organization is not None
        assert connection.organization.text == "a"

    def test_other_settings_are_overruled_with_a_note(self, place: Place) -> None:
        place.variables["SENTRY_AUTH_TOKEN"] = organization_token(url="https://o.example", org="a")
        place.variables["SENTRY_URL"] = "https://x.example"
        settings = place.settings(org="b")
        connection = settings.connection()
        assert connection.url.text == "https://o.example"
        assert connection.organization is not None
        assert connection.organization.text == "a"
        assert len(settings.notes) == 2

    def test_an_address_of_the_project_cannot_draw_it_away(self, place: Place) -> None:
        place.variables["SENTRY_AUTH_TOKEN"] = organization_token(url="https://o.example", org="a")
        place.rc(place.project, defaults_url="https://evil.example")
        assert place.settings().connection().url.text == "https://o.example"

    def test_a_token_without_address_is_guarded_like_any_other(self, place: Place) -> None:
        place.variables["SENTRY_AUTH_TOKEN"] = organization_token(url=None, org="a")
        place.rc(place.project, defaults_url="https://evil.example")
        with pytest.raises(UntrustedAddress):
            place.settings().connection()


def test_headers_need_a_name_and_a_value(place: Place) -> None:
    assert place.settings(header="X-A: 1\nX-B:2").headers() == {"X-A": "1", "X-B": "2"}
    with pytest.raises(ConfigurationError):
        place.settings(header="nonsense").headers()


def test_retries_and_time_are_numbers(place: Place) -> None:
    place.variables.update({"SENTRY_HTTP_MAX_RETRIES": "2", "CRASHFREE_TIMEOUT": "30"})
    policy = place.settings().policy()
    assert (policy.retries, policy.budget, policy.conflict_budget) == (2, 30.0, 30.0)
    place.variables["CRASHFREE_TIMEOUT"] = "soon"
    with pytest.raises(ConfigurationError, match="CRASHFREE_TIMEOUT"):
        place.settings().policy()


def test_a_missing_properties_file_is_a_note(place: Place) -> None:
    place.variables["SENTRY_PROPERTIES"] = "nope"
    assert "nope" in place.settings().notes[0]


def test_dotenv_can_be_switched_off(place: Place) -> None:
    (place.project / ".env").write_text("SENTRY_ORG=dotenv")
    place.variables["SENTRY_LOAD_DOTENV"] = "0"
    assert place.settings().get("org") is None
