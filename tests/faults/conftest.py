"""The run that all others are compared with, made once."""

from typing import Any

import pytest

from tests.faults.launches import finished, outcome, project


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run makes that meets no fault."""
    folder = project(tmp_path_factory.mktemp("undisturbed"))
    assert len(finished(folder)) == 1
    return outcome(folder / "runs" / "faults")
