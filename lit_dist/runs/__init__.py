"""A run from its settings, resumed, replayed."""
