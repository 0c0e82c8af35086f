"""The address of the classifier in settings and hashes of 0.1: ``lit_dist.classifier._adam``, the default optimizer."""

from lit_dist.models.classifier import ImageClassifier
from lit_dist.models.supervised import _adam

__all__ = ["ImageClassifier", "_adam"]
