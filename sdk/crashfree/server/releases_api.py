"""The endpoints of releases: make, read, change, remove; their commits and deploys.

The same handlers serve the paths of the organization and those of one project; there, a release
that the project does not have does not exist.

Threads: handlers run on any thread. Source: releases.md sections 4.1 and 4.4 to 4.6.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.background import BackgroundTask
from starlette.datastructures import QueryParams
from starlette.responses import Response

from crashfree.server import (
    activity,
    checkout,
    commits,
    deploys,
    issues,
    outbox,
    ranges,
    releases,
    resolutions,
)
from crashfree.server.commits import Range, StoredCommit, UnknownRepositories
from crashfree.server.counting import Selection
from crashfree.server.endpoint import (
    Call,
    Problem,
    answer,
    api,
    cursor_of,
    iso,
    link,
    page,
)
from crashfree.server.fields import Invalid, Object
from crashfree.server.release_health import adoption_stages, release_health
from crashfree.server.release_json import Extras, release_json, version_info
from crashfree.server.release_list import list_releases
from crashfree.server.release_requests import (
    CREATE,
    CREATE_IN_PROJECT,
    DEPLOY,
    STATUS_NAMES,
    UPDATE,
)
from crashfree.server.releases import ReleaseRow, Undeletable
from crashfree.server.selection import select

_MAX_USER_AGENT: Final = 256


def read(call: Call, shape: Object) -> dict[str, Any]:
    """Return the checked body; Problem(400) with the errors of its fields."""
    try:
        return dict(shape.read(call.json()))
    except Invalid as refusal:
        raise Problem(400, refusal.errors) from None


def found_release(db: sqlite3.Connection, call: Call) -> ReleaseRow:
    """Return the release that the path names; Problem(404) when there is none."""
    release = releases.find(db, call.path["version"])
    if release is None:
        raise Problem(404)
    if call.project.id and call.project.id not in releases.project_ids(db, release.id):
        raise Problem(404)
    return release


def delivering(call: Call, response: Response) -> Response:
    """Return the response; what it left in the outbox goes out after it."""
    response.background = BackgroundTask(outbox.deliver, call.store)
    return response


# Making and changing.


def create_release(call: Call) -> Response:
    """Create a release, or add projects, commits and refs to one that exists."""
    body = read(call, CREATE_IN_PROJECT if call.project.id else CREATE)
    with call.store.write() as db:
        wanted = [call.project.id] if call.project.id else _project_ids(call, db, body["projects"])
        release, new = releases.find_or_make(db, body["version"], call.now)
        had = set(releases.project_ids(db, release.id))
        for project_id in wanted:
            call.store.release_id(db, release.version, project_id, call.now, seen=False)
        if new:
            agent = call.headers.get("user-agent", "")[:_MAX_USER_AGENT]
            releases.change(db, release.id, {"user_agent": agent or None})
        # The original ignores these on a release that exists, so that `new --finalize` does not
        # finalize it; here they fill what is still empty.
        _apply(
            db,
            call,
            release,
            {
                name: body[name]
                for name in ("ref", "url", "dateReleased", "owner")
                if body.get(name) and _column(release, name) is None
            }
            | ({"status": body["status"]} if "status" in body else {}),
        )
        fetchable = _take_commits(db, call, release, body)
        shown = _details(db, call, release.id)
    if fetchable:
        shown = _fetch(call, release, fetchable)
    added = bool(set(wanted) - had)
    return delivering(call, answer(shown, 201 if new or added else 208))


def update_release(call: Call) -> Response:
    """Change a release: ref, url, dates, status, commits and refs; null empties a field."""
    body = read(call, UPDATE)
    with call.store.write() as db:
        release = found_release(db, call)
        names = ("ref", "url", "dateReleased", "status")
        _apply(db, call, release, {name: body[name] for name in names if name in body})
        fetchable = _take_commits(db, call, release, body)
        shown = _details(db, call, release.id)
    if fetchable:
        shown = _fetch(call, release, fetchable)
    return delivering(call, answer(shown))


_COLUMN_NAMES: Final = {"dateReleased": "date_released"}


def _column(release: ReleaseRow, name: str) -> object:
    return getattr(release, _COLUMN_NAMES.get(name, name))


def _apply(
    db: sqlite3.Connection, call: Call, release: ReleaseRow, values: Mapping[str, Any]
) -> None:
    """Set what a body says, and log the first finalizing."""
    changed: dict[str, object] = {}
    for name, value in values.items():
        if name == "status":
            changed["status"] = STATUS_NAMES[value]
        elif name == "dateReleased":
            changed["date_released"] = None if value is None else value.timestamp()
        else:
            changed[name] = value or None
    releases.change(db, release.id, changed)
    if changed.get("date_released") is None:
        return
    for project_id in releases.project_ids(db, release.id):
        if not activity.happened(db, "release", project_id=project_id, release_id=release.id):
            activity.log(
                db,
                "release",
                project_id=project_id,
                release_id=release.id,
                data={"version": release.version},
                at=call.now,
            )


def _project_ids(call: Call, db: sqlite3.Connection, named: Sequence[object]) -> list[int]:
    """Return the projects named by slug or number."""
    known: dict[str, int] = {}
    for project in call.store.projects(db):
        known[str(project.id)] = project.id
        known[project.slug] = project.id
    try:
        return list(dict.fromkeys(known[str(name)] for name in named))
    except KeyError:
        raise Problem(400, {"projects": ["Invalid project slugs"]}) from None


# Commits.


def _take_commits(
    db: sqlite3.Connection, call: Call, release: ReleaseRow, body: Mapping[str, Any]
) -> list[Range]:
    """Store commits or refs of a body; return the ranges that a checkout here may know."""
    before = frozenset(commits.release_commit_ids(db, release.id))
    stored: list[StoredCommit] = []
    wanted: list[Range] = []
    refs = _refs(body)
    if body.get("commits"):
        if len(body["commits"]) > commits.MAX_COMMITS:
            raise Problem(400, {"commits": [f"At most {commits.MAX_COMMITS} commits at once."]})
        stored = commits.store_commits(db, release.id, body["commits"], call.now)
    elif refs is not None and not refs:
        commits.clear_commits(db, release.id)
    if refs:
        wanted = _ranges(db, call, release, refs)
        # Where the commits themselves came along, nothing has to be fetched.
        if not body.get("commits"):
            for each in wanted:
                stored += commits.store_range(db, release.id, each, None, call.now)
    _settle(db, call, release, stored, before)
    return [each for each in wanted if each.repository.local_path and not body.get("commits")]


def _ranges(
    db: sqlite3.Connection, call: Call, release: ReleaseRow, refs: Sequence[Mapping[str, Any]]
) -> list[Range]:
    try:
        return commits.ranges(db, release, refs, call.now)
    except UnknownRepositories as unknown:
        names = ", ".join(unknown.names)
        raise Problem(400, {"refs": [f"Invalid repository names: {names}"]}) from None


def _fetch(call: Call, release: ReleaseRow, wanted: Sequence[Range]) -> dict[str, Any]:
    """Read ranges from checkouts, outside of any transaction, and store what they hold."""
    found = [(each, checkout.read_range(each.repository, each.base, each.head)) for each in wanted]
    with call.store.write() as db:
        before = frozenset(commits.release_commit_ids(db, release.id))
        stored: list[StoredCommit] = []
        for each, read_commits in found:
            if read_commits is not None:
                stored += commits.store_range(db, release.id, each, read_commits, call.now)
        _settle(db, call, release, stored, before)
        return _details(db, call, release.id)


def _settle(
    db: sqlite3.Connection,
    call: Call,
    release: ReleaseRow,
    stored: Sequence[StoredCommit],
    before: frozenset[int],
) -> None:
    """Resolve what new commits name, and announce the deploys that waited for them."""
    resolutions.refer(db, release, stored, before=before, host=_host(call), at=call.now)
    deploys.announce_waiting(
        db,
        release,
        base_url=call.base_url,
        organization=call.context.organization,
        at=call.now,
    )


def _refs(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the refs of a body, older clients' `headCommits` among them; None when unsaid."""
    if body.get("headCommits"):
        return [
            {
                "repository": head["repository"],
                "commit": head["currentId"],
                "previousCommit": head.get("previousId"),
            }
            for head in body["headCommits"]
        ]
    refs: list[dict[str, Any]] | None = body.get("refs")
    return refs


def _host(call: Call) -> str | None:
    return urlsplit(call.base_url).hostname


# Reading.


def get_release(call: Call) -> Response:
    """Return one release; `health=1` adds the health of each of its projects."""
    if call.query.get("health") == "1":
        call.store.settle_users()
    with call.store.read() as db:
        release = found_release(db, call)
        return answer(_details(db, call, release.id))


def _details(db: sqlite3.Connection, call: Call, release_id: int) -> dict[str, Any]:
    project_ids = _selected_projects(call, db, release_id)
    environments = select(db, _environments(call), (), ()).environments
    selection = Selection(tuple(project_ids), (release_id,), environments)
    span = ranges.health_range(call.query, call.now)
    reader = call.store.counts(db)
    extras = Extras(
        health=release_health(reader, selection, now=call.now, period=span)
        if call.query.get("health") == "1"
        else None,
        stages=adoption_stages(db, selection) if call.query.get("adoptionStages") == "1" else None,
    )
    shown = release_json(db, reader, [releases.get(db, release_id)], extras, selection=selection)[0]
    if call.project.id or len(project_ids) == 1:
        shown["currentProjectMeta"] = _neighbours(db, release_id, project_ids[0])
    return shown


def _environments(call: Call) -> QueryParams:
    return QueryParams([("environment", name) for name in call.query.getlist("environment")])


def _selected_projects(call: Call, db: sqlite3.Connection, release_id: int) -> list[int]:
    if call.project.id:
        return [call.project.id]
    wanted = set(call.query.getlist("project"))
    known = {project.id: project for project in call.store.projects(db)}
    return [
        project_id
        for project_id in releases.project_ids(db, release_id)
        if not wanted or wanted & {str(project_id), known[project_id].slug, "-1"}
    ]


def _neighbours(db: sqlite3.Connection, release_id: int, project_id: int) -> dict[str, Any]:
    """Return the versions before and after a release in its project, by date."""
    release = releases.get(db, release_id)
    found: dict[str, Any] = {}
    for name, compare, order in (("prev", "<", "DESC"), ("next", ">", "ASC")):
        row = db.execute(
            "SELECT version FROM releases JOIN release_projects ON release_id = releases.id"
            f" WHERE project_id = ? AND ({releases.DATE}, releases.id) {compare} (?, ?)"
            f" ORDER BY {releases.DATE} {order}, releases.id {order} LIMIT 1",
            (project_id, release.date, release.id),
        ).fetchone()
        found[f"{name}ReleaseVersion"] = None if row is None else row[0]
    for name, order in (("first", "ASC"), ("last", "DESC")):
        row = db.execute(
            "SELECT version FROM releases JOIN release_projects ON release_id = releases.id"
            f" WHERE project_id = ? ORDER BY {releases.DATE} {order}, releases.id {order} LIMIT 1",
            (project_id,),
        ).fetchone()
        found[f"{name}ReleaseVersion"] = None if row is None else row[0]
    found["sessionsLowerBound"] = found["sessionsUpperBound"] = None
    return found


def delete_release(call: Call) -> Response:
    """Delete a release that neither issues nor sessions refer to."""
    with call.store.write() as db:
        release = found_release(db, call)
        try:
            releases.delete(db, call.store.counts(db), release.id)
        except Undeletable as refusal:
            raise Problem(400, str(refusal)) from None
    # The ingest remembers ids by name.
    call.store.recorder.forget()
    return answer(None, 204)


def list_commits(call: Call) -> Response:
    """Return the commits of a release, newest first."""
    with call.store.read() as db:
        release = found_release(db, call)
        repository: int | None = None
        name = call.query.get("repo_name") or call.query.get("repositoryName")
        number = call.query.get("repo_id")
        if name or number:
            known = (
                commits.find_repository(db, name)
                if name
                else commits.get_repository(db, int(number))
                if number and number.isdigit()
                else None
            )
            if known is None:
                raise Problem(404)
            repository = known.id
        ids = commits.release_commit_ids(db, release.id, repository=repository)
        cursor = cursor_of(call)
        wanted = ids[cursor.offset : cursor.offset + cursor.per_page]
        shown = commits.commit_json(db, wanted, with_releases=True)
    more = len(ids) > cursor.offset + cursor.per_page
    return answer(
        [shown[commit] for commit in wanted], headers={"Link": link(call, cursor, more=more)}
    )


def list_commit_files(call: Call) -> Response:
    """Return the files that the commits of a release changed."""
    with call.store.read() as db:
        release = found_release(db, call)
        cursor = cursor_of(call)
        files = commits.release_files(
            db, release.id, limit=cursor.per_page + 1, offset=cursor.offset
        )
    more = len(files) > cursor.per_page
    return answer(files[: cursor.per_page], headers={"Link": link(call, cursor, more=more)})


def list_release_repositories(call: Call) -> Response:
    """Return the repositories that a release has commits of."""
    with call.store.read() as db:
        release = found_release(db, call)
        ids = {
            int(row[0])
            for row in db.execute(
                "SELECT DISTINCT repository_id FROM release_commits"
                " JOIN commits ON commits.id = commit_id WHERE release_id = ?",
                (release.id,),
            )
        }
        shown = [each.json() for each in commits.repositories(db, status=None) if each.id in ids]
    return page(call, shown)


def previous_with_commits(call: Call) -> Response:
    """Return the newest release with commits up to this one, itself included; `{}` if none."""
    with call.store.read() as db:
        release = found_release(db, call)
        found = releases.previous_with_commits(db, release)
        if found is None:
            return answer({})
        return answer(release_json(db, call.store.counts(db), [found], Extras())[0])


def get_meta(call: Call) -> Response:
    """Return the counts of a release."""
    with call.store.read() as db:
        release = found_release(db, call)
        shown = release_json(db, call.store.counts(db), [release], Extras())[0]
        files = db.execute(
            "SELECT count(DISTINCT path) FROM commit_files"
            " JOIN release_commits USING (commit_id) WHERE release_id = ?",
            (release.id,),
        ).fetchone()[0]
        artifacts = db.execute(
            "SELECT (SELECT count(*) FROM release_files WHERE release_id = ?),"
            " (SELECT coalesce(sum(file_count), 0) FROM bundles WHERE id IN"
            " (SELECT bundle FROM bundle_releases WHERE release_id = ?))",
            (release.id, release.id),
        ).fetchone()
    return answer(
        {
            "version": release.version,
            "versionInfo": version_info(release.version),
            "projects": shown["projects"],
            "newGroups": shown["newGroups"],
            "deployCount": shown["deployCount"],
            "commitCount": shown["commitCount"],
            "released": iso(release.date),
            "commitFilesChanged": int(files),
            "releaseFileCount": int(artifacts[0]) + int(artifacts[1]),
            "isArtifactBundle": int(artifacts[1]) > 0,
        }
    )


def list_resolved(call: Call) -> Response:
    """Return the issues that were resolved in a release."""
    with call.store.read() as db:
        release = found_release(db, call)
        ids = resolutions.resolved_in(db, release.id, call.project.id or None)
        shown = issues.issue_json(
            db,
            issues.rows(db, ids),
            base_url=call.base_url,
            organization=call.context.organization,
        )
    return page(call, shown)


def list_release_activity(call: Call) -> Response:
    """Return what happened to a release, newest first."""
    with call.store.read() as db:
        release = found_release(db, call)
        found = activity.entries(db, release_id=release.id, project_id=call.project.id or None)
    return page(call, found)


def get_stats(call: Call) -> Response:
    """Return the events of a release in each of the last 24 hours."""
    with call.store.read() as db:
        release = found_release(db, call)
        last = int(call.now // 3600) * 3600
        counts: dict[int, int] = dict.fromkeys(range(last - 23 * 3600, last + 1, 3600), 0)
        for row in db.execute(
            "SELECT CAST(timestamp / 3600 AS INTEGER) * 3600, count(*) FROM events"
            " WHERE project_id = ? AND timestamp >= ? AND release_id = ? GROUP BY 1",
            (call.project.id, last - 23 * 3600, release.id),
        ):
            if row[0] in counts:
                counts[int(row[0])] = int(row[1])
    return answer([[slot, count] for slot, count in counts.items()])


# Deploys.


def list_deploys(call: Call) -> Response:
    """Return all deploys of a release, the last finished first."""
    with call.store.read() as db:
        release = found_release(db, call)
        shown = [deploy.json() for deploy in deploys.of_release(db, release.id)]
    return page(call, shown)


def create_deploy(call: Call) -> Response:
    """Tell that a release was deployed; its authors are told in turn."""
    body = read(call, DEPLOY)
    with call.store.write() as db:
        release = found_release(db, call)
        project_ids = releases.project_ids(db, release.id)
        if body.get("projects"):
            project_ids = _deployed_projects(call, db, release, body["projects"])
        deploy = deploys.make(
            db,
            release,
            body,
            environment_id=call.store.environment_id(db, body["environment"]),
            project_ids=project_ids,
            at=call.now,
        )
        deploys.announce_waiting(
            db,
            release,
            base_url=call.base_url,
            organization=call.context.organization,
            at=call.now,
        )
    return delivering(call, answer(deploy.json(), 201))


def _deployed_projects(
    call: Call, db: sqlite3.Connection, release: ReleaseRow, named: Sequence[object]
) -> list[int]:
    own = set(releases.project_ids(db, release.id))
    known: dict[str, int] = {}
    for project in call.store.projects(db):
        if project.id in own:
            known[project.slug] = known[str(project.id)] = project.id
    wrong = [str(name) for name in named if str(name) not in known]
    if wrong:
        message = f"Invalid projects ({', '.join(wrong)}) for release {release.version}"
        raise Problem(
            400,
            {"detail": {"code": "invalid-projects", "message": message, "extra": {}}},
        )
    return sorted({known[str(name)] for name in named})


_O: Final = "/api/0/organizations/{organization}/releases/"
_P: Final = "/api/0/projects/{organization}/{project}/releases/"

ROUTES: Final = [
    api(_O, GET=list_releases, POST=create_release),
    api(_O + "{version}/", GET=get_release, PUT=update_release, DELETE=delete_release),
    api(_O + "{version}/commits/", GET=list_commits),
    api(_O + "{version}/commitfiles/", GET=list_commit_files),
    api(_O + "{version}/repositories/", GET=list_release_repositories),
    api(_O + "{version}/meta/", GET=get_meta),
    api(_O + "{version}/resolved/", GET=list_resolved),
    api(_O + "{version}/activity/", GET=list_release_activity),
    api(_O + "{version}/previous-with-commits/", GET=previous_with_commits),
    api(_O + "{version}/deploys/", GET=list_deploys, POST=create_deploy),
    api(_P, GET=list_releases, POST=create_release),
    api(_P + "{version}/", GET=get_release, PUT=update_release, DELETE=delete_release),
    api(_P + "{version}/commits/", GET=list_commits),
    api(_P + "{version}/repositories/", GET=list_release_repositories),
    api(_P + "{version}/resolved/", GET=list_resolved),
    api(_P + "{version}/stats/", GET=get_stats),
]

BODIES: Final = {
    ("POST", _O): CREATE,
    ("POST", _P): CREATE_IN_PROJECT,
    ("PUT", _O + "{version}/"): UPDATE,
    ("PUT", _P + "{version}/"): UPDATE,
    ("POST", _O + "{version}/deploys/"): DEPLOY,
}
"""Request bodies for the description of the API."""
