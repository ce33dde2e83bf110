"""Files on the host's disk, for cells that must not see more of it than their own folder.

Nothing here knows of cells, guests or codes: paths are bytes, what goes wrong is an `OSError`.
"""
