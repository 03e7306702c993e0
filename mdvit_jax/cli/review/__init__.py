"""The page to look at all results of a batch, or one, and the ratings given there."""
