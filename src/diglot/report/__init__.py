"""What a person reads: facing pages, terminal tables, generated documentation."""
