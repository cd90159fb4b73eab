"""Breaks the real stack on purpose, under load, and checks every client's answer afterwards.

    python -m tests.faults --minutes 5 --seed 7

nginx, gunicorn with several workers and the tests' upstream run as they do in life; many clients ask, each in one of
the renderings; faults come at random moments of a plan that follows from the seed. Then, for every client: what it saw
is a prefix of the answer's log without gap or double, and ended with exactly one terminal event, which is true; or the
end was detectably cut, and a resume completed it.
"""
