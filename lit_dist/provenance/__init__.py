"""What a run has done, so that others can check it: the ledger, its audit, and the settings' hash."""
