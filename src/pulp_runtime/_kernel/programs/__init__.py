"""Programs: modules with a `_start` of their own, reached and reaching out through files (spec/wasi-cloud §2).

program.py     a module, compiled, checked and bound; its slots
slot.py        where runs of it take place, one after the other
run.py         one run, as capabilities see it
streams.py     standard output and error, to the log
reprieve.py    lets a daemon run past every deadline until it is to end
function.py    a fresh run for each event
daemon.py      one run for as long as it likes
"""
