"""How good a registration is: overlap and distance metrics, regions, pictures, reports.

Everything here works on NumPy arrays `[x, y, z]` on the host.
"""
