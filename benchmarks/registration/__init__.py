"""Registration methods side by side on scans of real people."""
