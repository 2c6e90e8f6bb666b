"""Work that overlaps, in constant memory."""

import queue
import threading
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
