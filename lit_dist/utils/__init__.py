"""Files, errors, signals, tables, and what touches private parts of Lightning."""
