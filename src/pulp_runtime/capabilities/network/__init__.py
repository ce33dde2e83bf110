"""Sockets that are not a transport's."""
