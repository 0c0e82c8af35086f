"""NVIDIA FLARE as the engine of a federation."""
