from __future__ import annotations

from hypothesis import settings

# The same inputs in every run: a failure that one machine sees, every machine sees.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")
