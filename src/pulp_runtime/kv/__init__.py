"""A small durable key-value store: one file, one process, any number of threads.

    put, delete, append, rename, increment, apply ──▶ one writer at a time ──▶ SQLite ──▶ memory ──▶ watches
    get ──▶ memory, else SQLite
    Transaction ──▶ a snapshot of its own, and apply at the end, if nobody was faster

Keys and values are bytes; what goes wrong is a `KvError`. Nothing here knows of cells, guests or codes.
"""
