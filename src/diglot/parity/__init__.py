"""Proofs that two models are one function, and where they part when they are not."""
