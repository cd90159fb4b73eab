"""The whole on one machine, without root, containers or an account: `make run`."""
