"""Processes of the host, started by cells."""
