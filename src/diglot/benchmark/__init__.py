"""Measuring the two frameworks: the pairs of the zoo, and what is said about them."""
