"""The configurations that come with the package, one YAML file for each collection and heuristic."""
