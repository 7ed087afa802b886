"""Stepwell: the DeepSeek-R1 post-training flow from one recipe."""

__version__ = "0.1.0"
