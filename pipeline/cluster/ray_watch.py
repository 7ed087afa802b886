"""Ray's own end, seen by a thread: the driver may wait inside Ray, or compute, when it comes.

main thread   waits for the run's processes ── sees `dead()` ── ends the run in a sentence
this thread   looks every second ── dead for `GRACE_S` and no end? ── says so, and ends the process

Without it Ray itself would end the process after a minute, with words and an exit code of its own.
"""

import threading
from collections.abc import Callable, Sequence

import psutil

from pipeline.cluster.clean_up import leave, leave_behind, say
from pipeline.cluster.ray_session import answers_soon, is_alive
from pipeline.errors import FAILED

LOOK_S = 1.0
GRACE_S = 20.0  # for the main thread to end the run by itself; Ray ends it after 60 s
AWAY_S = 20.0  # for which the head of a cluster may not answer


class RayWatch:
    """Watches processes of Ray's own on this machine, and the head of a cluster that was joined."""

    def __init__(
        self,
        processes: Sequence[tuple[str, psutil.Process]],
        *,
        head: str | None = None,
        look_s: float = LOOK_S,
        grace_s: float = GRACE_S,
        away_s: float = AWAY_S,
        reach: Callable[[str], bool] = answers_soon,
    ) -> None:
        """`processes` by name; `head`: HOST:PORT of a joined cluster, `reach` whether one there
        listens. Watches from now until `end`."""
        self._processes = processes
        self._head, self._reach, self._head_is_away = head, reach, False
        self._look_s, self._grace_s, self._away_s = look_s, grace_s, away_s
        self._ended = threading.Event()
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    def dead(self) -> str | None:
        """What is gone, in words; None while all is there."""
        names = [name for name, process in self._processes if not is_alive(process)]
        if names:
            return f"Ray's {' and '.join(names)} died"
        if self._head_is_away:
            return f"the Ray cluster at {self._head} does not answer any more"
        return None

    def end(self) -> None:
        """Watch no longer: the run ends by itself."""
        self._ended.set()

    def _watch(self) -> None:
        dead_s = away_s = 0.0
        while not self._ended.wait(self._look_s):
            away = self._head is not None and not self._reach(self._head)
            away_s = away_s + self._look_s if away else 0.0
            self._head_is_away = away_s >= self._away_s
            dead = self.dead()
            dead_s = 0.0 if dead is None else dead_s + self._look_s
            if dead is not None and dead_s > self._grace_s:
                say(
                    f"{dead}, and this process waits inside Ray: it ends here; what is finished is "
                    "kept, and the same command goes on"
                )
                leave_behind()
                leave(FAILED)
