"""Shapes that cross the boundary between host and guest. No behaviour, no engine, no I/O."""
