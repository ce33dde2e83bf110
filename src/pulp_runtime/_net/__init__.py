"""The protocol floor: HTTP on sockets, and nothing about cells.

listener    sockets, the connection limit, the sweep that ends slow peers
http1       one connection: bytes in, requests out, answers back in order
head        a request head: grammar, strictness, the memo
target      the request target: path, query, cleaning
chunked     the chunked transfer coding, incrementally
response    an answer as bytes; the host's own answers
sniff       a Content-Type for a body that has none
fields      header names and values: what is allowed, what is canonical
settings    every timeout and limit of this floor
routes      method and path to owner and parameters
fault       the one exception of reading a request
"""
