"""Everything of a run that runs elsewhere than in its own process; the only user of Ray."""

import os

os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # it aborts at SIGTERM
