"""Building a graph first and running it later, seven ways."""
