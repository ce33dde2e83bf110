"""The operator's way into a running host: a UNIX socket, one request a connection (spec/core §1.7).

protocol    frames and records
server      the socket: who may connect, requests in, replies out
verbs       what each operation does to the host
tail        the last lines of the log, and those that follow
client      the other end, for the command
"""
