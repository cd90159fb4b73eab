"""Fault injection: break the real stack under load, and check every client's answer afterwards.

    python -m tests.faults --minutes 5 --seed 7

nginx, gunicorn with several workers and the tests' upstream run as in production. Many clients ask, each in one of the
renderings. Faults are injected at random moments of a plan, which the seed determines. Then the checks hold for every
client: its events are a prefix of the answer's log without gaps or duplicates, and end with exactly one terminal event,
which is true; or the end was detectably cut, and a resume completed it.
"""
