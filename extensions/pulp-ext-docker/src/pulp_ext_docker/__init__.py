"""`spawn.docker`: containers for Pulp cells, each cell with containers of its own.

settings    what the operator says: the daemon's socket, folders that may be bound, where templates are
messages    what cells send and get
guard       what a container may be: names, binds, networks, numbers
daemon      asks the daemon, with a deadline; errors as codes
streams     what the daemon sends piece by piece: output, files
server      the daemon's description of a container as the contract's
stats       the daemon's counters as the contract's
ring        the last events
loop        the daemon asked from the event loop: events as they come, builds
build       images from the operator's templates, one at a time
runtime     the host functions
effect      `effect.fleet.runtime`, whose messages are not published: refused, with a sentence
"""

from pulp_ext_docker.runtime import capability as capability
from pulp_ext_docker.settings import NAME as NAME
