"""The study: many runs of several heuristics and seeds over one collection, with its tables and figures."""
