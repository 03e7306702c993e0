"""The paper's experiments, each on the pairs of one configuration."""
