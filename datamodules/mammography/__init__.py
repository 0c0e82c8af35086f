"""Mammograms: CBIS-DDSM, DDSM, mini-MIAS, or any table."""
