"""One run of cyclical weight transfer by each of several programs, which ``benchmarks/peers.py`` compares."""
