"""Rules of sessions.md sections 1 and 3.1."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crashfree._ground.clock import Mark
from crashfree._protocol.attributes import Attributes
from crashfree._protocol.decoding import decode_envelope
from crashfree._protocol.received import ReceivedSession, parse_session_update
from crashfree._protocol.session import SessionState, session_payload
from crashfree.types import SessionAttributes
from tests.support.clock import FakeClock
from tests.support.vectors import load, read

SID = "7bdbc0e8-e9af-448c-bca0-7a04b3328193"
ATTRIBUTES: SessionAttributes = {"release": "app@1.0", "environment": "test"}
START = 1_795_225_248.404572
VECTORS: list[dict[str, Any]] = load("sessions.json")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(wall=START)


def begin(clock: FakeClock, did: str | None = None) -> SessionState:
    return SessionState.begin(ATTRIBUTES, at=Mark.of(clock), did=did, sid=SID)


# -- transitions ----------------------------------------------------------------------------


def test_a_session_begins_healthy_unannounced_and_with_a_new_id(clock: FakeClock) -> None:
    first = SessionState.begin(ATTRIBUTES, at=Mark.of(clock))
    second = SessionState.begin(ATTRIBUTES, at=Mark.of(clock), did="")
    assert first.sid != second.sid
    assert len(first.sid) == 36
    assert first.sid[14] == "4"
    assert (first.status, first.errors, first.sequence) == ("ok", 0, 0)
    assert not first.announced
    assert not first.terminal
    assert second.did is None


def test_attributes_given_at_the_start_cannot_be_changed_from_outside(clock: FakeClock) -> None:
    attributes: SessionAttributes = {"release": "app@1.0"}
    state = SessionState.begin(attributes, at=Mark.of(clock))
    attributes["release"] = "app@2.0"
    assert session_payload(state, timestamp=START)["attrs"] == {"release": "app@1.0"}


def test_a_handled_error_counts_and_changes_nothing_else(clock: FakeClock) -> None:
    state = begin(clock).errored().errored()
    assert (state.status, state.errors) == ("ok", 2)


def test_a_clean_end_is_exited_with_its_duration(clock: FakeClock) -> None:
    state = begin(clock).errored()
    clock.advance(2.5)
    ended = state.ended(at=Mark.of(clock))
    assert (ended.status, ended.errors, ended.duration) == ("exited", 1, 2.5)


def test_a_crash_counts_as_an_error_too(clock: FakeClock) -> None:
    """W02, W03."""
    assert begin(clock).crashed(at=Mark.of(clock)).errors == 1
    crashed = begin(clock).errored().crashed(at=Mark.of(clock))
    assert (crashed.status, crashed.errors) == ("crashed", 2)


def test_an_error_that_was_counted_before_it_crashed_counts_once(clock: FakeClock) -> None:
    """W04: captured first, then it escapes the request."""
    crashed = begin(clock).errored().crashed(at=Mark.of(clock), counted=True)
    assert (crashed.status, crashed.errors) == ("crashed", 1)
    assert begin(clock).errored().survived(counted=True).errors == 1


def test_a_crash_has_at_least_one_error_whatever_was_counted(clock: FakeClock) -> None:
    assert begin(clock).crashed(at=Mark.of(clock), counted=True).errors == 1
    assert begin(clock).survived(counted=True).errors == 1


def test_a_survived_error_shows_only_when_the_session_ends(clock: FakeClock) -> None:
    """W42."""
    state = begin(clock).survived()
    assert (state.status, state.errors) == ("ok", 1)
    ended = state.ended(at=Mark.of(clock))
    assert (ended.status, ended.errors) == ("unhandled", 1)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda state, at: state.crashed(at=at), "crashed"),
        (lambda state, at: state.ended("abnormal", at=at), "abnormal"),
        (lambda state, at: state.ended("exited", at=at), "unhandled"),
    ],
)
def test_what_is_worse_than_unhandled_wins_over_it(end: Any, status: str, clock: FakeClock) -> None:
    """crashed > abnormal > unhandled > exited. Source: sessions.md section 1.2."""
    assert end(begin(clock).survived(), Mark.of(clock)).status == status


def test_an_abnormal_end_adds_no_error_and_may_say_how(clock: FakeClock) -> None:
    """W32."""
    state = begin(clock).ended("abnormal", at=Mark.of(clock), mechanism="anr_foreground")
    assert (state.status, state.errors, state.mechanism) == ("abnormal", 0, "anr_foreground")
    exited = begin(clock).ended("exited", at=Mark.of(clock), mechanism="anr_foreground")
    assert exited.mechanism is None


def test_errors_stop_counting_at_65535(clock: FakeClock) -> None:
    state = begin(clock)._replace(errors=65_534).errored().errored()
    assert state.errors == 65_535
    assert state.crashed(at=Mark.of(clock)).errors == 65_535


def test_the_end_may_lie_in_the_past(clock: FakeClock) -> None:
    """W36, W37: a session that was left in the background ended when it was left."""
    state = begin(clock)
    clock.advance(11)
    left = Mark.of(clock)
    clock.advance(30)
    ended = state.ended(at=left)
    assert ended.duration == 11
    payload = session_payload(ended, timestamp=clock.time())
    assert payload["timestamp"] == "2026-11-21T01:40:59.404572Z"


def test_a_clock_set_back_neither_makes_a_duration_negative_nor_an_end_before_the_start(
    clock: FakeClock,
) -> None:
    """W19."""
    state = begin(clock)
    clock.advance(5)
    clock.set_wall(START - 3600)
    ended = state.ended(at=Mark.of(clock))
    payload = session_payload(ended, timestamp=clock.time())
    assert payload.get("duration") == 5
    assert payload["timestamp"] == payload["started"]


def test_an_end_before_the_start_lasts_zero_seconds(clock: FakeClock) -> None:
    before = Mark.of(clock)
    clock.advance(1)
    assert begin(clock).ended(at=before).duration == 0.0


@pytest.mark.parametrize(
    "vector",
    [c for c in VECTORS if c["input"]["kind"] == "duration_js" and len(c["input"]) == 3],
    ids=lambda case: case["name"],
)
def test_the_recorded_durations_hold(vector: dict[str, Any]) -> None:
    times = vector["input"]
    started = Mark(times["started"], times["started"], times["started"])
    at = Mark(times["timestamp"], times["timestamp"], times["timestamp"])
    ended = SessionState.begin(ATTRIBUTES, at=started).ended(at=at)
    assert ended.duration == vector["expect"]["duration"]


def test_a_user_may_become_known_until_the_session_is_announced(clock: FakeClock) -> None:
    """W16."""
    state = begin(clock).identified("u-1").identified("u-2")
    assert state.did == "u-2"
    assert state.identified("") == state
    announced = state.sent()
    assert announced.identified("u-3") is announced
    ended = state.ended(at=Mark.of(clock))
    assert ended.identified("u-3") is ended


# -- the machine ----------------------------------------------------------------------------


class Sessions(RuleBasedStateMachine):
    """Any order of transitions keeps the invariants of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(wall=START)
        self.first = SessionState.begin(ATTRIBUTES, at=Mark.of(self.clock), did="d0")
        self.state = self.first
        self.errors = 0
        self.unhandled = False
        self.inits = 0
        self.seqs: list[int] = []
        self.announced_did: str | None = None

    def move(self, after: SessionState) -> None:
        before = self.state
        assert after.errors >= before.errors
        assert after.announced >= before.announced
        assert after.sequence >= before.sequence
        if before.terminal:
            assert after is before
        self.state = after

    @rule(seconds=st.floats(0, 1000), back=st.booleans())
    def time_passes(self, seconds: float, back: bool) -> None:
        self.clock.advance(seconds)
        if back:
            self.clock.set_wall(self.clock.wall - 3 * seconds)

    @rule(did=st.sampled_from(["", "d1", "d2"]))
    def identify(self, did: str) -> None:
        self.move(self.state.identified(did))

    @rule()
    def error(self) -> None:
        self.errors += not self.state.terminal
        self.move(self.state.errored())

    @rule(counted=st.booleans())
    def survive(self, counted: bool) -> None:
        if not self.state.terminal:
            self.errors = max(1, self.errors + (not counted))
            self.unhandled = True
        self.move(self.state.survived(counted=counted))

    @precondition(lambda self: not self.state.terminal)
    @rule(counted=st.booleans())
    def crash(self, counted: bool) -> None:
        self.errors = max(1, self.errors + (not counted))
        self.move(self.state.crashed(at=Mark.of(self.clock), counted=counted))
        assert self.state.status == "crashed"

    @precondition(lambda self: not self.state.terminal)
    @rule(abnormal=st.booleans())
    def end(self, abnormal: bool) -> None:
        self.move(self.state.ended("abnormal" if abnormal else "exited", at=Mark.of(self.clock)))
        if abnormal:
            assert self.state.status == "abnormal"
        else:
            assert self.state.status == ("unhandled" if self.unhandled else "exited")

    @precondition(lambda self: self.state.terminal)
    @rule(counted=st.booleans())
    def nothing_follows_the_end(self, counted: bool) -> None:
        at = Mark.of(self.clock)
        self.move(self.state.crashed(at=at, counted=counted))
        self.move(self.state.ended("exited", at=at))
        self.move(self.state.ended("abnormal", at=at, mechanism="anr_background"))

    @rule()
    def send(self) -> None:
        payload = session_payload(self.state, timestamp=self.clock.time())
        received = parse_session_update(json.loads(json.dumps(payload)))
        self.inits += received.init
        self.seqs.append(payload.get("seq", -1))
        if len(self.seqs) == 1:
            self.announced_did = received.did
            assert received.init
        assert received.did == self.announced_did
        self.state = self.state.sent()

    @invariant()
    def what_must_not_change_has_not(self) -> None:
        state = self.state
        assert state.sid == self.first.sid
        assert state.started == self.first.started
        assert state.attributes == ATTRIBUTES
        assert state.errors == self.errors
        assert state.terminal == (state.status != "ok") == (state.duration is not None)
        assert state.duration is None or state.duration >= 0
        if state.status in ("crashed", "unhandled"):
            assert state.errors >= 1
        assert self.inits == (1 if self.seqs else 0)
        assert self.seqs == list(range(len(self.seqs)))


Sessions.TestCase.settings = settings(deadline=None, max_examples=80)
TestSessions = Sessions.TestCase


# -- the payload ----------------------------------------------------------------------------


def test_the_first_update_carries_init_and_seq_0(clock: FakeClock) -> None:
    state = begin(clock, did="42")
    assert session_payload(state, timestamp=START + 1) == {
        "sid": SID,
        "did": "42",
        "init": True,
        "seq": 0,
        "started": "2026-11-21T01:40:48.404572Z",
        "timestamp": "2026-11-21T01:40:49.404572Z",
        "status": "ok",
        "errors": 0,
        "attrs": {"release": "app@1.0", "environment": "test"},
    }


def test_later_updates_repeat_the_whole_state_without_init(clock: FakeClock) -> None:
    """W15."""
    state = begin(clock).sent()
    clock.advance(1)
    state = state.errored()
    second = session_payload(state, timestamp=clock.time())
    state = state.sent().ended(at=Mark.of(clock))
    third = session_payload(state, timestamp=clock.time())
    assert "init" not in second
    assert "init" not in third
    assert (second.get("seq"), third.get("seq")) == (1, 2)
    assert "duration" not in second
    assert third.get("duration") == 1
    assert {second["sid"], third["sid"]} == {SID}
    assert second["started"] == third["started"]


def test_the_unhandled_status_can_be_written_as_crashed_for_older_servers(clock: FakeClock) -> None:
    state = begin(clock).survived().ended(at=Mark.of(clock))
    assert session_payload(state, timestamp=START).get("status") == "unhandled"
    older = session_payload(state, timestamp=START, unhandled_status="crashed")
    assert older.get("status") == "crashed"
    exited = begin(clock).ended(at=Mark.of(clock))
    assert session_payload(exited, timestamp=START, unhandled_status="crashed").get("status") == (
        "exited"
    )


def test_a_mechanism_is_written_with_an_abnormal_end_only(clock: FakeClock) -> None:
    at = Mark.of(clock)
    abnormal = begin(clock).ended("abnormal", at=at, mechanism="anr_background")
    payload = session_payload(abnormal, timestamp=START)
    assert payload.get("abnormal_mechanism") == "anr_background"
    assert "abnormal_mechanism" not in session_payload(
        begin(clock).ended("abnormal", at=at), timestamp=START
    )


# -- reading --------------------------------------------------------------------------------


def minimal(**more: Any) -> dict[str, Any]:
    return {"sid": SID, "started": "2021-04-26T08:00:00+0100", "attrs": {"release": "1.0.0"}} | more


def test_the_update_of_a_real_python_client_is_read() -> None:
    _, item = decode_envelope(read("envelopes/py-session-individual-two.envelope")).items
    assert parse_session_update(json.loads(item.payload)) == ReceivedSession(
        sid="7bdbc0e8-e9af-448c-bca0-7a04b3328193",
        did="u-9",
        seq=0,
        timestamp=pytest.approx(1_795_225_248.460685, abs=1e-6),
        started=pytest.approx(1_795_225_248.455611, abs=1e-6),
        init=True,
        duration=None,
        status="exited",
        errors=1,
        abnormal_mechanism=None,
        attributes=Attributes("desk@5.1.0", "staging", "203.0.113.7", None),
    )


@pytest.mark.parametrize(
    ("file", "init", "status", "errors", "seq"),
    [
        ("node-session-init", True, "ok", 0, 0),
        ("node-session-update-errors", False, "ok", 1, None),
        ("node-session-exit", False, "exited", 1, None),
    ],
)
def test_the_updates_of_a_real_javascript_client_are_read(
    file: str, init: bool, status: str, errors: int, seq: int | None
) -> None:
    (item,) = decode_envelope(read(f"envelopes/{file}.envelope")).items
    session = parse_session_update(json.loads(item.payload))
    assert session.sid == "834ce027-6f05-4e02-bccc-ec280b8ccc60"
    assert (session.init, session.status, session.errors, session.seq) == (
        init,
        status,
        errors,
        seq,
    )
    assert session.duration is not None
    assert session.attributes == Attributes("web-bff@1.9.3", "qa", None, None)


@pytest.mark.parametrize(
    "vector",
    [case for case in VECTORS if case["input"]["kind"] == "parse"],
    ids=lambda case: case["name"],
)
def test_the_vectors_are_taken_or_refused(vector: dict[str, Any]) -> None:
    payload, expected = vector["input"]["payload"], vector["expect"]
    if not expected["ok"]:
        with pytest.raises(ValueError):
            parse_session_update(payload)
        return
    session = parse_session_update(payload)
    if "normalized" in expected:
        wanted = dict(expected["normalized"])
        assert wanted.pop("abnormal_mechanism") == (session.abnormal_mechanism or "none")
        assert {name: getattr(session, name) for name in wanted} == wanted
        assert session.seq is None
    else:
        assert session.sid is None
        assert session.timestamp is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sid": "nope"}, "sid"),
        ({"sid": None}, "sid"),
        ({"sid": 5}, "sid"),
        ({"sid": SID.replace("-", "_")}, "sid"),
        ({"sid": "7bdbc0e8e9af448cbca07a04b332819"}, "sid"),
        ({"sid": "7bdbc0e-8e9af-448c-bca0-7a04b3328193"}, "sid"),
        ({"sid": "7bdbc0e8e9af448cbca07a04b332819g"}, "sid"),
        ({"did": 42}, "did"),
        ({"did": ["u"]}, "did"),
        ({"seq": "1"}, "seq"),
        ({"seq": -1}, "seq"),
        ({"seq": 1.0}, "seq"),
        ({"seq": None}, "seq"),
        ({"seq": True}, "seq"),
        ({"seq": 2**64}, "seq"),
        ({"errors": -1}, "errors"),
        ({"errors": 1.0}, "errors"),
        ({"errors": True}, "errors"),
        ({"errors": None}, "errors"),
        ({"init": "true"}, "init"),
        ({"init": 1}, "init"),
        ({"init": None}, "init"),
        ({"started": None}, "started"),
        ({"started": 1619420400}, "started"),
        ({"started": "2021-04-26T08:00:00"}, "started"),
        ({"timestamp": 1619420400}, "timestamp"),
        ({"timestamp": "2021-04-26T08:00:00"}, "timestamp"),
        ({"timestamp": None}, "timestamp"),
        ({"duration": "1"}, "duration"),
        ({"duration": True}, "duration"),
        ({"duration": 10**400}, "duration"),
        ({"status": 5}, "status"),
        ({"status": None}, "status"),
        ({"abnormal_mechanism": 5}, "abnormal_mechanism"),
        ({"attrs": None}, "attrs"),
        ({"attrs": []}, "attrs"),
        ({"attrs": {}}, "release"),
        ({"attrs": {"release": 5}}, "release"),
        ({"attrs": {"release": "r", "environment": 5}}, "environment"),
        ({"attrs": {"release": "r", "ip_address": 5}}, "ip_address"),
        ({"attrs": {"release": "r", "user_agent": 5}}, "user_agent"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused_and_named(
    change: dict[str, Any], reason: str
) -> None:
    """S15 and the table of section 1."""
    with pytest.raises(ValueError, match=reason):
        parse_session_update(minimal(**change))


@pytest.mark.parametrize("payload", [None, [], "x", 5, True])
def test_a_payload_that_is_no_object_is_refused(payload: object) -> None:
    with pytest.raises(ValueError):
        parse_session_update(payload)


def test_unknown_keys_are_ignored_and_nulls_taken_where_the_table_says_so() -> None:
    session = parse_session_update(
        minimal(colour="blue", did=None, abnormal_mechanism=None, duration=None)
    )
    assert (session.did, session.abnormal_mechanism, session.duration) == (None, None, None)


@pytest.mark.parametrize(
    ("did", "known"),
    [
        ("u", "u"),
        ("", None),
        ("00000000-0000-0000-0000-000000000000", None),
        ("0" * 32, None),
        ("00000000-0000-0000-0000-000000000123", "00000000-0000-0000-0000-000000000123"),
        ("0" * 31, "0" * 31),
    ],
)
def test_the_nil_uuid_is_nobody(did: str, known: str | None) -> None:
    """S09."""
    assert parse_session_update(minimal(did=did)).did == known


@pytest.mark.parametrize("status", ["foo", "errored", "", "OK"])
def test_unknown_statuses_are_kept_as_they_are(status: str) -> None:
    """S10."""
    assert parse_session_update(minimal(status=status)).status == status


@pytest.mark.parametrize(
    ("status", "sent", "kept"),
    [
        ("abnormal", "anr_foreground", "anr_foreground"),
        ("abnormal", "anr_background", "anr_background"),
        ("abnormal", "made_up", None),
        ("ok", "anr_background", None),
    ],
)
def test_a_mechanism_counts_only_on_abnormal_sessions(
    status: str, sent: str, kept: str | None
) -> None:
    session = parse_session_update(minimal(status=status, abnormal_mechanism=sent))
    assert session.abnormal_mechanism == kept


def test_seq_is_0_with_init_and_a_negative_duration_is_none() -> None:
    session = parse_session_update(minimal(init=True, seq=17, duration=-1.0))
    assert (session.seq, session.duration) == (0, None)
    assert parse_session_update(minimal(seq=17, duration=0)).duration == 0.0


def test_a_sid_without_dashes_is_the_same_session() -> None:
    assert parse_session_update(minimal(sid=SID.replace("-", "").upper())).sid == SID
