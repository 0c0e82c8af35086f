"""What a run keeps on disk, without pickle, and its folder."""
