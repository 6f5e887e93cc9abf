"""The tables of the release catalog: commits, deploys, files, issues, activity, outbox.

Migrations as in `schema`: one that has been released never changes, a new one is appended.
Times are REAL seconds since the epoch.

Source: releases.md section 6.7.
"""

from __future__ import annotations

from typing import Final

_COMMITS: Final = """
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    url TEXT,
    provider TEXT,
    status TEXT NOT NULL DEFAULT 'active',
    local_path TEXT,
    date_created REAL NOT NULL
);
CREATE TABLE commit_authors (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT
);
CREATE TABLE commits (
    id INTEGER PRIMARY KEY,
    repository_id INTEGER NOT NULL,
    key TEXT NOT NULL,
    author_id INTEGER,
    message TEXT NOT NULL DEFAULT '',
    date REAL NOT NULL,
    UNIQUE (repository_id, key)
);
CREATE TABLE commit_files (
    commit_id INTEGER NOT NULL,
    path TEXT NOT NULL,
    type TEXT NOT NULL,
    base_name TEXT NOT NULL,
    PRIMARY KEY (commit_id, path)
) WITHOUT ROWID;
CREATE INDEX commit_files_by_name ON commit_files (base_name, commit_id);
CREATE TABLE release_commits (
    release_id INTEGER NOT NULL,
    commit_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (release_id, commit_id)
) WITHOUT ROWID;
CREATE INDEX release_commits_by_commit ON release_commits (commit_id);
CREATE TABLE release_heads (
    release_id INTEGER NOT NULL,
    repository_id INTEGER NOT NULL,
    commit_key TEXT NOT NULL,
    previous_key TEXT,
    pending INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (release_id, repository_id)
) WITHOUT ROWID;
"""

_DEPLOYS: Final = """
CREATE TABLE deploys (
    id INTEGER PRIMARY KEY,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    name TEXT,
    url TEXT,
    date_started REAL,
    date_finished REAL NOT NULL,
    date_created REAL NOT NULL,
    notified INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX deploys_by_release ON deploys (release_id, date_finished);
CREATE TABLE deploy_projects (
    deploy_id INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    PRIMARY KEY (deploy_id, project_id)
) WITHOUT ROWID;
CREATE TABLE members (
    id INTEGER PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    teams TEXT NOT NULL DEFAULT '[]',
    deploys TEXT NOT NULL DEFAULT 'committed'
);
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    date REAL NOT NULL,
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    data TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    fault TEXT
);
CREATE INDEX outbox_by_state ON outbox (state, id);
"""

_FILES: Final = """
CREATE TABLE blobs (
    sha1 TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    date_used REAL NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE release_files (
    id INTEGER PRIMARY KEY,
    release_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    dist TEXT,
    headers TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha1 TEXT NOT NULL,
    date_created REAL NOT NULL
);
CREATE UNIQUE INDEX release_files_by_name ON release_files (release_id, name, coalesce(dist, ''));
CREATE TABLE release_file_parts (
    file_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sha1 TEXT NOT NULL,
    PRIMARY KEY (file_id, position)
) WITHOUT ROWID;
CREATE INDEX release_file_parts_by_blob ON release_file_parts (sha1);
CREATE TABLE bundles (
    id INTEGER PRIMARY KEY,
    checksum TEXT NOT NULL UNIQUE,
    bundle_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    file_count INTEGER NOT NULL,
    date_created REAL NOT NULL,
    date_modified REAL NOT NULL
);
CREATE INDEX bundles_by_uuid ON bundles (bundle_id);
CREATE TABLE bundle_parts (
    bundle INTEGER NOT NULL,
    position INTEGER NOT NULL,
    sha1 TEXT NOT NULL,
    PRIMARY KEY (bundle, position)
) WITHOUT ROWID;
CREATE INDEX bundle_parts_by_blob ON bundle_parts (sha1);
CREATE TABLE bundle_projects (
    bundle INTEGER NOT NULL,
    project_id INTEGER NOT NULL,
    PRIMARY KEY (bundle, project_id)
) WITHOUT ROWID;
CREATE TABLE bundle_releases (
    bundle INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    dist TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (bundle, release_id, dist)
) WITHOUT ROWID;
CREATE INDEX bundle_releases_by_release ON bundle_releases (release_id);
CREATE TABLE bundle_files (
    bundle INTEGER NOT NULL,
    path TEXT NOT NULL,
    url TEXT,
    type TEXT,
    headers TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (bundle, path)
) WITHOUT ROWID;
CREATE TABLE dists (
    id INTEGER PRIMARY KEY,
    release_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    date_created REAL NOT NULL,
    UNIQUE (release_id, name)
);
"""

_ISSUES: Final = """
CREATE TABLE issues (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    number INTEGER NOT NULL,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    culprit TEXT NOT NULL,
    metadata TEXT NOT NULL,
    level TEXT NOT NULL,
    platform TEXT NOT NULL,
    unhandled INTEGER NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT 'unresolved',
    substatus TEXT,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    times_seen INTEGER NOT NULL DEFAULT 0,
    first_release_id INTEGER,
    last_release_id INTEGER,
    assignee TEXT,
    assigned_by TEXT,
    assigned_at REAL,
    UNIQUE (project_id, number)
);
CREATE INDEX issues_by_time ON issues (project_id, last_seen);
CREATE INDEX issues_by_first_release ON issues (first_release_id);
CREATE TABLE issue_hashes (
    project_id INTEGER NOT NULL,
    hash TEXT NOT NULL,
    issue_id INTEGER NOT NULL,
    PRIMARY KEY (project_id, hash)
) WITHOUT ROWID;
CREATE INDEX issue_hashes_by_issue ON issue_hashes (issue_id);
CREATE TABLE issue_releases (
    issue_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    environment_id INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    times_seen INTEGER NOT NULL,
    PRIMARY KEY (issue_id, release_id, environment_id)
) WITHOUT ROWID;
CREATE INDEX issue_releases_by_release ON issue_releases (release_id, issue_id);
CREATE TABLE issue_users (
    issue_id INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (issue_id, hash)
) WITHOUT ROWID;
CREATE TABLE resolutions (
    issue_id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    release_id INTEGER,
    commit_id INTEGER,
    actor TEXT,
    date REAL NOT NULL
);
CREATE INDEX resolutions_by_kind ON resolutions (kind);
CREATE INDEX resolutions_by_release ON resolutions (release_id);
CREATE TABLE issue_commits (
    issue_id INTEGER NOT NULL,
    commit_id INTEGER NOT NULL,
    date REAL NOT NULL,
    PRIMARY KEY (issue_id, commit_id)
) WITHOUT ROWID;
CREATE INDEX issue_commits_by_commit ON issue_commits (commit_id);
CREATE TABLE activities (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL,
    issue_id INTEGER,
    release_id INTEGER,
    type TEXT NOT NULL,
    actor TEXT,
    data TEXT NOT NULL,
    date REAL NOT NULL
);
CREATE INDEX activities_by_project ON activities (project_id, date);
CREATE INDEX activities_by_issue ON activities (issue_id, date);
CREATE INDEX activities_by_release ON activities (release_id, type);
CREATE INDEX releases_by_time ON releases (coalesce(date_released, date_created));
CREATE INDEX releases_by_creation ON releases (date_created);
CREATE INDEX counts_day_by_release ON counts_day (release_id, project_id);
"""

MIGRATIONS: Final[tuple[str, ...]] = (_COMMITS + _DEPLOYS + _FILES + _ISSUES,)
