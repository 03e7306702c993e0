"""What several tests share: inputs, runs in processes of their own, checks of types."""
