"""Reading mathematical answers and deciding whether two of them are equal."""
