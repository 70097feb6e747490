"""Writers: hub -> source text, weight map, line map."""
