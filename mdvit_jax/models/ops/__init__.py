"""The operations of the networks that XLA's own forms do slowly on a CPU."""
