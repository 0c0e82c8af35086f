"""Remedies: what changes a visit so that a model forgets less, or drifts less, between unlike sites; one a file."""
