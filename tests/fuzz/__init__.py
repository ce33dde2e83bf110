"""Hostile inputs by the million: `python -m tests.fuzz --cases 1000000`."""
