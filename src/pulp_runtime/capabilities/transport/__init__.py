"""Inbound and outbound network protocols."""
