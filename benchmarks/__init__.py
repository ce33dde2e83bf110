"""Benchmarks: what the product does on this machine, beside its peers, in the same run.

python -m benchmarks.http_echo     a whole request over a socket
python -m benchmarks.crossing      one call into a cell, in process
"""
