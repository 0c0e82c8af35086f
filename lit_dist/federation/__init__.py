"""The same run across real institutions: the model travels between machines, and each site has only its own images."""
