"""At which depth a request ran: a worker's answer, through vLLM's `worker_extension_cls`."""

from typing import Any


class DepthReports:
    """A base class that vLLM gives its worker."""

    model_runner: Any

    def stepwell_depths(self, name: str, tokens: int | None) -> tuple[int, int]:
        """Iterations and tokens of the requests whose id holds `name`, of each at most the first
        `tokens`; (0, 0) where it is unknown."""
        return self.model_runner.get_model().depths.report(name, tokens)
