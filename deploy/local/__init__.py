"""`make run`: the whole stack on one machine, without root, containers or an account."""
