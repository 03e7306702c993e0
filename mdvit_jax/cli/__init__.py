"""The commands of `python -m mdvit_jax`, also installed as `mdvit`."""
