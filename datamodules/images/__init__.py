"""Images: found, decoded, prepared once, augmented, and given in batches."""
