"""How much of everything a number of features takes."""
