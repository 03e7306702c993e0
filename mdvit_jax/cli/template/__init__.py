"""`mdvit template`: several scans brought into the space in their middle, averaged."""
