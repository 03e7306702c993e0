"""`mdvit register`: two files in; image, transform, picture and report out."""
