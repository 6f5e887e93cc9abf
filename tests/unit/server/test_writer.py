"""Group commit over another engine than SQLite: a list in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from crashfree.server.engine import Busy, FactWriter
from crashfree.server.facts import Facts
from crashfree.server.writer import GroupCommit


class _Memory:
    """The smallest engine that keeps the contract of `FactWriter`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.locked_for = 0
        self.busy_for = 0
        self._writing = False

    def try_write_lock(self) -> bool:
        if self.locked_for:
            self.locked_for -= 1
            return False
        assert not self._writing
        self._writing = True
        return True

    def write_facts(self, batch: Sequence[Facts]) -> list[Exception | None]:
        assert self._writing
        self._writing = False
        if self.busy_for:
            self.busy_for -= 1
            raise Busy
        good = [facts.project_id for facts in batch if facts.project_id >= 0]
        self.batches.append(good)
        return [None if facts.project_id >= 0 else ValueError("below 0") for facts in batch]

    @property
    def written(self) -> list[int]:
        return [number for batch in self.batches for number in batch]


def _facts(number: int) -> Facts:
    return Facts(number, 0.0, None, None, (), (), (), (), {})


@pytest.fixture
def engine() -> _Memory:
    return _Memory()


def _commit(engine: FactWriter) -> GroupCommit:
    return GroupCommit(engine)


def test_what_comes_together_is_written_together(engine: _Memory) -> None:
    async def run() -> None:
        commit = _commit(engine)
        await asyncio.gather(*(commit.write(_facts(number)) for number in range(20)))

    asyncio.run(run())
    assert engine.batches == [list(range(20))]


def test_more_than_one_batch_is_written_in_order(engine: _Memory) -> None:
    async def run() -> None:
        commit = _commit(engine)
        await asyncio.gather(*(commit.write(_facts(number)) for number in range(700)))

    asyncio.run(run())
    assert engine.written == list(range(700))
    assert max(map(len, engine.batches)) <= 256


def test_a_fault_is_told_to_the_one_it_belongs_to(engine: _Memory) -> None:
    told: dict[int, BaseException | None] = {}

    async def run() -> None:
        commit = _commit(engine)
        done = asyncio.Event()

        def teller(number: int) -> None:
            def tell(fault: BaseException | None) -> None:
                told[number] = fault
                if len(told) == 3:
                    done.set()

            commit.add(_facts(number), tell)

        for number in (1, -1, 2):
            teller(number)
        await done.wait()
        with pytest.raises(ValueError, match="below 0"):
            await commit.write(_facts(-2))

    asyncio.run(run())
    assert told[1] is told[2] is None
    assert isinstance(told[-1], ValueError)
    assert engine.written == [1, 2]


def test_a_busy_or_locked_engine_is_asked_again(engine: _Memory) -> None:
    engine.busy_for, engine.locked_for = 3, 2

    async def run() -> None:
        await _commit(engine).write(_facts(1))

    asyncio.run(run())
    assert engine.written == [1]


def test_a_client_that_goes_away_does_not_stop_its_neighbours(engine: _Memory) -> None:
    async def run() -> None:
        commit = _commit(engine)
        tasks = [asyncio.create_task(commit.write(_facts(number))) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()

    asyncio.run(run())
    assert engine.written == [0, 1, 2]
