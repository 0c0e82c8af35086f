"""Results of a study: tables, tests of differences, figures, and the report."""
