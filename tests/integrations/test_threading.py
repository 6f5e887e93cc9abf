"""threading: scopes flow into threads and pools when that is asked for."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import crashfree
from crashfree.testing import capture
from crashfree_integrations.threading import ThreadingIntegration


def tags_of_a_thread(integrations: list[ThreadingIntegration]) -> list[str | None]:
    with capture(integrations=integrations) as seen:
        with crashfree.isolation_scope():
            crashfree.set_tag("where", "block")
            thread = threading.Thread(target=crashfree.capture_message, args=("thread",))
            thread.start()
            thread.join()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(crashfree.capture_message, "pool").result()
        crashfree.capture_message("after")
    return [event.get("tags", {}).get("where") for event in seen.events]


def test_scopes_flow_only_when_asked() -> None:
    assert tags_of_a_thread([]) == [None, None, None]
    assert tags_of_a_thread([ThreadingIntegration()]) == ["block", "block", None]


def test_a_thread_with_a_run_of_its_own_runs_it_once() -> None:
    class Own(threading.Thread):
        runs = 0

        def run(self) -> None:
            self.runs += 1

    with capture(integrations=[ThreadingIntegration()]):
        thread = Own()
        thread.start()
        thread.join()
    assert thread.runs == 1
    assert "run" not in vars(thread)


def test_what_is_set_in_the_thread_reaches_the_block_that_started_it() -> None:
    """They work for the same unit; a scope of its own is one `isolation_scope` away."""
    with capture(integrations=[ThreadingIntegration()]) as seen:
        with crashfree.isolation_scope():
            thread = threading.Thread(target=crashfree.set_tag, args=("set", "in thread"))
            thread.start()
            thread.join()
            crashfree.capture_message("m")
    assert seen.events[0]["tags"] == {"set": "in thread"}


def test_taken_out_it_leaves_threads_as_they_were() -> None:
    before = (threading.Thread.start, ThreadPoolExecutor.submit)
    with capture(integrations=[ThreadingIntegration()]):
        pass
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == before


def test_a_wrapper_of_somebody_else_may_hand_the_thread_to_run() -> None:
    """As sentry-sdk's integration does: a thread must not die of meeting two of them."""
    start = threading.Thread.start
    ran: list[str | None] = []

    def theirs(thread: threading.Thread) -> None:
        inner = getattr(thread.run, "__func__", thread.run)
        thread.run = lambda: inner(thread)  # type: ignore[method-assign]
        start(thread)

    threading.Thread.start = theirs  # type: ignore[method-assign]
    try:
        with capture(integrations=[ThreadingIntegration()]):
            thread = threading.Thread(target=lambda: ran.append("ran"))
            thread.start()
            thread.join()
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    assert ran == ["ran"]
