"""Why a call failed: what a process raised, or the death of another that it worked with.

rank 1's node goes ── rank 0's sums fail at once ── Ray tells of rank 1 a moment later
"""

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from pipeline.cluster.ray_session import ComponentDied, ComponentFailed, first_line
from pipeline.errors import Diverged, StepwellError, WrongInput

LOOK_S = 0.2
EVICTED = re.compile(r"running low on memory.*?([\d.]+) ?GB used / ([\d.]+) ?GB limit", re.DOTALL)
PEER_S = 60.0  # after an error, for Ray to tell of a death that caused it: of a node, 15 to 30 s


def death_in(
    answers: Mapping[str, Future[Any]],
    *,
    beat_s: Callable[[str], float | None],
    stopping: Callable[[], bool],
) -> RayActorError | None:
    """The death of one of the processes, asked for an answer by name, that is dead or seen to be in
    `PEER_S`. None as soon as all have answered or, busy as they are, beaten; or when a stop is
    wished for. `beat_s`: when one last beat."""
    before = {name: beat_s(name) for name in answers}
    pending = {answer: name for name, answer in answers.items()}
    end = time.monotonic() + PEER_S
    while pending and time.monotonic() < end and not stopping():
        done, _ = wait(pending, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        errors = [answer.exception() for answer in done]
        for error in errors:
            if isinstance(error, RayActorError):
                return error
        pending = {
            answer: name
            for answer, name in pending.items()
            if answer not in done and beat_s(name) == before[name]
        }
    return None


def eviction(error: BaseException) -> str | None:
    """How full the memory was for which Ray ended a process, its own way out before the kernel's;
    None for another error."""
    match = EVICTED.search(str(error))
    if match is None:
        return None
    used, limit = match.groups()
    return (
        f"Ray ended it, as the machine's memory was full: {used} of {limit} GB, whatever else runs "
        "there; free some, or lower micro_batch_rows or hardware.max_sequences_per_engine"
    )


def ray_failure(error: RayError) -> ComponentFailed:
    """A node, an object or Ray itself is gone."""
    if isinstance(error, OutOfMemoryError):
        return ComponentDied(f"a process died: {eviction(error) or first_line(error)}")
    return ComponentFailed(f"Ray: {type(error).__name__}: {first_line(error)}")


def innermost(error: RayError) -> BaseException:
    """What a process raised, through all that asked for it."""
    cause: BaseException = error
    while isinstance(cause, RayTaskError) and isinstance(cause.cause, BaseException):
        cause = cause.cause
    return cause


def failure_of(error: RayTaskError) -> StepwellError:
    """The innermost exception, as its author worded it; wrong input stays wrong input."""
    cause = innermost(error)
    if isinstance(cause, WrongInput):
        return WrongInput(str(cause))
    if isinstance(cause, Diverged):
        return cause
    if isinstance(cause, RayError) and not isinstance(cause, RayTaskError):
        return ray_failure(cause)
    expected = isinstance(cause, StepwellError)
    return ComponentFailed(str(cause) if expected else f"{type(cause).__name__}: {cause}")
