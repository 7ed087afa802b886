"""The seconds of CPU that the pool gives a sample by default: what takes longer is not scored."""

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rewards.pool import Pool

CPU_BUDGET_S: float = inspect.signature(Pool).parameters["cpu_s"].default


@contextmanager
def within_the_budget() -> Iterator[None]:
    """Fails where the block takes more; a busy or slow machine stays far below it."""
    start_s = time.process_time()
    yield
    assert time.process_time() - start_s < CPU_BUDGET_S
