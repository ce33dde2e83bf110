"""What hosts are made of: an application with its capabilities, several of them as one, and who may look on.

application   the cells of one application and what they need, brought up and taken down
offers        which capabilities a host knows
polling       sources of events that can only be asked
endpoints     where applications can be reached
access        calls from the host's own program into one application
lifecycle     who is told when an application has started, and before it stops
commands      named calls for operators
composition   several applications as one host
running       what a program does with a host that it has inside
"""
