"""Whose turn it is, for how long, and which batches a visit sees."""
