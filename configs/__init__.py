"""One file for each experiment; `default` holds every value."""
