"""`make bench`: what the service adds to the upstream, beside nginx and beside the textbook way.

All stacks carry the same answers of the same upstream in one run, taking turns, so that what the machine does
meanwhile falls on all of them. `docs/performance.md` says how each figure comes about.
"""
