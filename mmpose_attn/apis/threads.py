"""Work that overlaps, in constant memory."""

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar('T')
_END = object()


def overlap(items: Iterable[T], ahead: int = 1) -> Iterator[T]:
    """Compute items in a thread of their own, at most ``ahead`` of them before they are asked for.

    An exception of ``items`` is raised where it would have been. Closing the
    iterator ends the thread, after the item that it is at, and closes ``items``.
    """
    ready: queue.Queue = queue.Queue(ahead)
    stopped = threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            for item in items:
                if stopped.is_set():
                    break
                ready.put(item)
        except BaseException as error:
            failure.append(error)
        finally:
            if hasattr(items, 'close'):
                items.close()
            ready.put(_END)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            yield item
        if failure:
            raise failure[0]
    finally:
        stopped.set()
        while thread.is_alive():
            with suppress(queue.Empty):  # who waits to put something looks at stopped next
                ready.get(timeout=0.05)
        thread.join()


def newest(items: Iterable[T], waiting: int = 50) -> Iterator[tuple[int, T]]:
    """Items with their number, taken in a thread of their own as soon as they come.

    If more than ``waiting`` are not asked for yet, all but the newest are left
    out: what goes on by itself must not be seen later and later. An exception of
    ``items`` is raised where it would have been.
    """
    ready: deque = deque()
    something = threading.Condition()
    stopped = threading.Event()

    def give(number: int, item: object, failure: BaseException | None = None) -> None:
        with something:
            if len(ready) >= waiting and item is not _END:
                ready.clear()
            ready.append((number, item, failure))
            something.notify()

    def work() -> None:
        number = -1
        try:
            for number, item in enumerate(items):
                if stopped.is_set():
                    break
                give(number, item)
            give(number, _END)
        except BaseException as error:
            give(number, _END, error)
        finally:
            if hasattr(items, 'close'):
                items.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            with something:
                something.wait_for(lambda: ready)
                number, item, failure = ready.popleft()
            if failure is not None:
                raise failure
            if item is _END:
                return
            yield number, item
    finally:
        stopped.set()
        # it may wait for a stream that is silent, and ends by itself then
        thread.join(1)
