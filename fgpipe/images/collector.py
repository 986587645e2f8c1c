"""The garbage collector, out of the way of functions that make rows by the hundred thousand.

Rows hold no cycles, but each ten thousand of them start a search for some through all that
is there: with 100,000 images it takes longer than reading their rows.
"""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep it from running meanwhile; also a decorator: ``@without_collector()``."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
