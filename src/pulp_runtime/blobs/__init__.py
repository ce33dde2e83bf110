"""Large objects by name: streamed both ways, put whole or not at all, verified when they are read.

    write ──▶ new/<random> (hashed on the way) ──▶ fsync ──▶ content/ab/<sha-256> ──▶ index.db: name ──▶ content
    read  ──▶ index.db: content and the digest of each 1 MiB of it ──▶ one piece at a time, verified before it is given

`Bucket` is what every backend offers; `Store` is the embedded one. What goes wrong is an ordinary `OSError` with an
`errno`. Nothing here knows of cells or guests.
"""
