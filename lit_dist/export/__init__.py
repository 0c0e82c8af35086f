"""A trained run as a program that needs no lit_dist, with its model card."""
