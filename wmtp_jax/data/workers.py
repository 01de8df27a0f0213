"""Calls that are spread over worker processes, which leave Ctrl-C to their parent and end with it."""

import collections
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from wmtp_jax.errors import UserError


def map_in_workers(
    function: Callable[..., Any], arguments: Iterable[tuple], workers: int, *, when_killed: UserError
) -> Iterator[Any]:
    """Yields `function(*args)` for all args, in their order; two calls per worker are made ahead.

    Args:
        function: Goes to each worker once.
        arguments: Of each call.
        workers: Number of processes.
        when_killed: Raised when a worker was killed, perhaps for want of memory.
    """
    others = multiprocessing.active_children()
    waiting: collections.deque[Future] = collections.deque()
    # Not forked: this process may have threads (jax has), which a fork would leave in any state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(function,)) as pool:
        try:
            for args in arguments:
                waiting.append(pool.submit(_call, *args))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise when_killed from error
        except BaseException:
            for process in set(multiprocessing.active_children()).difference(others):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


_function: Callable[..., Any]


def _start_worker(function: Callable[..., Any]) -> None:
    global _function
    _function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _call(*args: Any) -> Any:
    return _function(*args)
