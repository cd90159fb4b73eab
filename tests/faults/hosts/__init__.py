"""The fault harness for several hosts that share only Valkey.

Each host is a process tree of its own: gunicorn with its workers. nginx is in front of all hosts. As root, each host
has a network namespace; else its connections go through a proxy that can cut them (`network`). `town` starts and ends
hosts and servers, `kinds` has the faults, `oracle` the invariants, and `run` is the run itself.
"""
