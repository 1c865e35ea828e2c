"""RateLimiter against its promise, for any load: order, rate, and nothing lost to cancellation."""

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from aioconc.flow import RateLimiter
from tests.virtual_time import run_virtual

calls = st.lists(
    st.tuples(
        st.floats(0, 3),  # arrives after the one before it by so many seconds
        st.integers(1, 4),  # cost
        st.none() | st.floats(0, 3),  # cancelled so long after its arrival
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(
    rate=st.floats(0.1, 50),
    per=st.floats(0.1, 5),
    burst=st.integers(4, 8),
    load=calls,
    pauses=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 3)), max_size=3),
    blocks=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 2)), max_size=3),
)
def test_never_more_than_rate_plus_burst_in_a_window(rate, per, burst, load, pauses, blocks):
    """In any window of `per` seconds at most rate + burst go, in order of arrival."""
    went: list[tuple[int, int, int]] = []  # nanosecond, number, cost

    async def main():
        loop = asyncio.get_running_loop()
        limiter = RateLimiter(rate, per, burst=burst)

        async def call(number, cost):
            await limiter.acquire(cost)
            went.append((round(loop.time() * 1e9), number, cost))

        tasks = []
        for at, length in pauses:
            loop.call_at(at, limiter.pause, length)
        for at, length in blocks:  # a step that blocks the loop makes everybody late
            loop.call_at(at, loop.advance, length)
        for number, (gap, cost, cancel_after) in enumerate(load):
            await asyncio.sleep(gap)
            task = loop.create_task(call(number, cost))
            tasks.append(task)
            if cancel_after is not None:
                loop.call_later(cancel_after, task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        statistics = limiter.statistics()
        assert statistics.waiting == 0
        assert statistics.acquired == sum(cost for _, _, cost in went)
        assert limiter._timer is None
        return [task.cancelled() for task in tasks]

    cancelled = run_virtual(main())
    # Every call went once or was cancelled; who went, went in order of arrival.
    assert [number for _, number, _ in went] == [n for n, dead in enumerate(cancelled) if not dead]
    window = round(per * 1e9)
    for first, (start, _, _) in enumerate(went):
        total = sum(cost for at, _, cost in went[first:] if at <= start + window)
        assert total <= rate + burst + 1e-6


@settings(max_examples=30)
@given(rate=st.integers(1, 1000), burst=st.integers(1, 5), n=st.integers(1, 60))
def test_a_full_queue_goes_exactly_at_the_rate(rate, burst, n):
    """With callers always waiting and a punctual clock, no time is given away either."""

    async def main():
        limiter = RateLimiter(rate, burst=burst)
        await asyncio.gather(*(limiter.acquire() for _ in range(n)))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(max(n - burst, 0) / rate, rel=1e-6, abs=1e-6)
