"""To look at results: a picture of one, the page of all of a batch, and ratings."""
