"""Models, what judges them, and what is read of the stored ones."""
