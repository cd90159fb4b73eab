"""What runs the service: gunicorn's configuration, and everything for one machine of one's own in `local`."""
