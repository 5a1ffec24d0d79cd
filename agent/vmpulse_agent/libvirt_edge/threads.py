"""Lanes: bounded daemon threads for calls that may block, with deadlines (promise A1).

A call that misses its deadline cannot be stopped: libvirt's calls are not interruptible. Its thread stays in it, its
*key* stays taken, and the lane is one thread narrower until libvirt answers; so a hung daemon or domain costs a bounded
number of threads, however often one asks. The threads are daemons: a stuck call does not keep the process from ending,
which ThreadPoolExecutor's threads would.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from vmpulse_agent.errors import HypervisorTimeout, HypervisorUnavailable
from vmpulse_agent.measures import CallMeasure

T = TypeVar("T")


class _Job:
    """One call: handed over by the loop, taken by a thread unless the loop gave up before."""

    def __init__(self, key: Hashable, work: Callable[[], Any], discard: Callable[[Any], None] | None) -> None:
        self.key = key
        self.work = work
        self.discard = discard
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self.loop.create_future()
        self._lock = threading.Lock()
        self._taken = False

    def take(self) -> bool:
        """Claim the job; only the first to do so gets it."""
        with self._lock:
            first, self._taken = not self._taken, True
        return first


class Lane:
    """Threads for one kind of call. All methods belong to the event loop.

    Args:
        name: for thread names and messages.
        width: the most threads there will ever be.
        measure: where the calls are counted.
    """

    def __init__(self, name: str, width: int, measure: CallMeasure | None = None) -> None:
        self.name = name
        self.width = width
        self.measure = measure or CallMeasure()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unanswered: dict[Hashable, _Job] = {}
        self._overdue = 0

    @property
    def overdue(self) -> int:
        """How many calls have missed their deadline and are still going on, each in a thread of its own."""
        return self._overdue

    @property
    def free(self) -> bool:
        """Whether a call made now would find a thread that is not stuck."""
        return self._overdue < self.width

    def busy(self, key: Hashable) -> bool:
        """Whether the call with this key is still going on, waited for or not."""
        return key in self._unanswered

    async def run(
        self, key: Hashable, work: Callable[[], T], deadline_s: float, discard: Callable[[T], None] | None = None
    ) -> T:
        """Run *work* in a thread and give what it gives or raises.

        Args:
            key: names the call; a second one with the same key is refused while the first goes on.
            work: what may block.
            deadline_s: seconds, waiting for a thread included.
            discard: called in the loop with a result that came too late, for results that have to be let go of.

        Raises:
            HypervisorTimeout: no answer in time; at once if the previous call with this key still waits, or every
                thread does, or a further one is needed and cannot be started.
        """
        self._refuse_hopeless(key)
        job = _Job(key, work, discard)
        self._hand_over(job)
        began = job.loop.time()
        try:
            async with asyncio.timeout(deadline_s):
                result: T = await asyncio.shield(job.answer)
                return result
        except TimeoutError:
            msg = f"{self.name}{_shown(key)}: no answer within {deadline_s:g} s"
            raise HypervisorTimeout(msg) from None
        finally:
            self._measure(job, job.loop.time() - began)
            self._leave(job)

    def close(self) -> None:
        """Let the threads end; those stuck in a call end when it does."""
        for job in self._unanswered.values():
            if job.take():
                job.answer.set_exception(HypervisorUnavailable(f"{self.name}: the connection is being closed"))
        self._unanswered.clear()
        for _ in self._threads:
            self._jobs.put(None)
        self._threads.clear()

    def _refuse_hopeless(self, key: Hashable) -> None:
        if key in self._unanswered:
            self.measure.unanswered += 1
            msg = f"{self.name}{_shown(key)}: the previous call has not been answered yet"
            raise HypervisorTimeout(msg)
        if not self.free:
            self.measure.unanswered += 1
            msg = f"{self.name}: all of its {self.width} threads are waiting for libvirt"
            raise HypervisorTimeout(msg)

    def _measure(self, job: _Job, seconds: float) -> None:
        """Count a call that is over for who made it; without an answer its maker gave it up."""
        self.measure.durations.add(seconds)
        if not job.answer.done():
            self.measure.unanswered += 1
        elif job.answer.exception() is not None:
            self.measure.errors += 1

    def _hand_over(self, job: _Job) -> None:
        if len(self._threads) < min(self.width, len(self._unanswered) + 1):
            self._widen()
        self._unanswered[job.key] = job
        self._jobs.put(job)

    def _widen(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"libvirt-{self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self.measure.unanswered += 1
            msg = f"{self.name}: no thread can be started: {error}"
            raise HypervisorTimeout(msg) from error
        self._threads.append(thread)

    def _leave(self, job: _Job) -> None:
        if job.answer.done():
            return
        if job.take():
            # No thread had begun with it, and none will.
            self._unanswered.pop(job.key, None)
            job.answer.cancel()
        else:
            self._overdue += 1
            job.answer.add_done_callback(lambda answer: self._came_late(job, answer))

    def _came_late(self, job: _Job, answer: asyncio.Future[Any]) -> None:
        self._overdue -= 1
        # Asking for the exception also keeps asyncio from logging that nobody did.
        if not answer.cancelled() and answer.exception() is None and job.discard is not None:
            job.discard(answer.result())

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.take():
                self._work(job)
            del job

    def _work(self, job: _Job) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = job.work()
        except BaseException as caught:  # noqa: BLE001 - whatever it is, it belongs to who asked
            error = caught
        # A closed loop wants no answers.
        with contextlib.suppress(RuntimeError):
            job.loop.call_soon_threadsafe(self._answer, job, result, error)

    def _answer(self, job: _Job, result: Any, error: BaseException | None) -> None:
        self._unanswered.pop(job.key, None)
        if job.answer.done():
            return
        if error is not None:
            job.answer.set_exception(error)
        else:
            job.answer.set_result(result)


def _shown(key: Hashable) -> str:
    """What a key names, for people: without the numbers that only keep calls apart."""
    parts = key if isinstance(key, tuple) else (key,)
    return "".join(
        " " + (part.hex() if isinstance(part, bytes) else str(part)) for part in parts if not isinstance(part, int)
    )
