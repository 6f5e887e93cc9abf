"""Putting a client's parts together: worker, transport, spool, sessions.

Only here is an option turned into a part. Nothing is started: no thread, no socket, no urllib3.
The run directory of this process, its ledger and its journal are made here, in one step.

Threads: the one that makes the client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from crashfree._client.autopsy import Autopsy
from crashfree._client.options import Options
from crashfree._delivery.consent import ConsentGate
from crashfree._delivery.destinations import FanOutTransport
from crashfree._delivery.discards import Discards
from crashfree._delivery.httptransport import HttpTransport
from crashfree._delivery.spool import Spool, SpoolLimits, default_directory
from crashfree._delivery.spotlight import SpotlightTransport
from crashfree._delivery.transport import NullTransport, Transport
from crashfree._delivery.worker import Worker
from crashfree._ground.clock import Clock
from crashfree._ground.http import HttpSettings
from crashfree._protocol.dsn import Dsn
from crashfree._sessions import evidence
from crashfree._sessions.aggregator import SessionAggregator
from crashfree._sessions.application import ApplicationSessions, NoSessions
from crashfree._sessions.faultfile import FaultFile
from crashfree._sessions.journal import Journal
from crashfree._sessions.ledger import Ledger
from crashfree._sessions.requests import RequestSessions
from crashfree.types import SessionAttributes, SessionUpdate
