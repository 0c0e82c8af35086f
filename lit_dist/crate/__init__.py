"""A study packed for others, and whether what they hold follows from what it has recorded."""
