"""Files for schedulers, which a person can read and edit, from a plan; and their own commands."""
