"""The stages, one file each, and what they share."""
