"""Everything of a run that runs elsewhere than in its own process; the only user of Ray."""
