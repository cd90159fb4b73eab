"""`make bench`: the cost that the service adds to the upstream, compared with nginx and with the textbook application.

All stacks carry the same answers of the same upstream in one run, in turns, so that other work on the machine affects
all of them. `docs/performance.md` explains each figure.
"""
