"""The study: many runs of several heuristics and seeds over one collection."""
