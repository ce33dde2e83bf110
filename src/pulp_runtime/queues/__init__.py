"""Durable queues: messages by topic, given out in order, at least once.

    publish ──▶ ready ── take ──▶ in flight ── acknowledge ──▶ gone
                  ▲                 │
                  └─ time is over ──┤   (its taker has it no more)
                                    └─ for the last time ──▶ dead ── requeue ──▶ ready

`Store` is one file of SQLite's. What goes wrong is an ordinary `OSError` with an `errno`. Nothing here knows of cells
or guests, and nothing waits: who is told of a topic's messages asks again.
"""
