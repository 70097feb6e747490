"""Frontends: what the user has -> hub."""
