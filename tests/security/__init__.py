"""Attacks by number: what a hostile cell, module or manifest does to a host. See `SECURITY.md`."""
