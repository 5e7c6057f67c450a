"""Judging: a second model says which texts an explanation fits, without being told which are the feature's."""
