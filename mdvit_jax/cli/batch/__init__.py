"""`mdvit batch`: all pairs of a CSV file."""
