"""Running programs that nobody has read: what isolates them, and what they are asked to do."""
