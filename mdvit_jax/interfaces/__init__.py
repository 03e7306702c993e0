"""mdvit_jax inside of other people's workflow programs, each in a module of its own."""
