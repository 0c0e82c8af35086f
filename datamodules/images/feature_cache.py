"""FeatureCache: the vectors of images, computed once, in one file that is checked as a whole."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor

from lit_dist.checkpoints import tensor_file
from lit_dist.datamodules.images.cache import writing
from lit_dist.utils.errors import InputError
from lit_dist.utils.progress import tracked

_SAVE_EVERY = 30.0  # seconds between two savings while computing
_DIGEST = 32  # bytes of a SHA-256


class FeatureCache:
    """Keeps vectors by the SHA-256 of the image's pixels; all that they depend on besides is in the file's name.

    The file is replaced as a whole and has a SHA-256 over its content, so what a killed process leaves is what was
    saved last, and a damaged one counts as empty. One process computes at a time; any number read.

    Args:
        folder: The folder of such files.
        settings: Everything that vectors depend on besides the pixels, as JSON values.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._settings = json.dumps(settings, sort_keys=True)
        self.path = folder / f"{hashlib.sha256(self._settings.encode()).hexdigest()[:16]}.safetensors"

    def find(self, digests: Sequence[bytes]) -> Tensor | None:
        """The vectors of images, float32, (images, features); None if one is not there."""
        known = self._read()
        if not digests or not known.keys() >= set(digests):
            return None
        return torch.stack([known[digest] for digest in digests])

    def build(self, digests: Sequence[bytes], compute: Callable[[Sequence[int]], Iterator[Tensor]]) -> Tensor:
        """Compute the vectors that are not there yet, with a progress bar.

        Args:
            digests: The SHA-256 of each image.
            compute: Gives the vectors of the images of some places, float32, (features,) each, in that order.

        Returns:
            What ``find`` gives then.

        Raises:
            InputError: If the file cannot be written.
        """
        found = self.find(digests)
        if found is not None:
            return found
        with writing(f"the cache of features {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # these are of patients' images
            with FileLock(self.path.with_suffix(".lock")):
                known = self._read()
                missing = {digest: place for place, digest in enumerate(digests) if digest not in known}
                saved = time.monotonic()
                vectors = tracked(compute(list(missing.values())), "Encoding images", len(missing))
                for digest, vector in zip(missing, vectors, strict=True):
                    known[digest] = vector
                    if time.monotonic() - saved > _SAVE_EVERY:
                        self._save(known)
                        saved = time.monotonic()
                self._save(known)
        return torch.stack([known[digest] for digest in digests])

    def _read(self) -> dict[bytes, Tensor]:
        with suppress(InputError):  # never written, or damaged
            tensors, settings = tensor_file.read(self.path)
            digests, vectors = tensors["digests"].numpy().tobytes(), tensors["vectors"]
            if settings == self._settings:
                names = (digests[start : start + _DIGEST] for start in range(0, len(digests), _DIGEST))
                return dict(zip(names, vectors, strict=True))
        return {}

    def _save(self, known: Mapping[bytes, Tensor]) -> None:
        digests = torch.frombuffer(bytearray(b"".join(known)), dtype=torch.uint8).view(-1, _DIGEST)
        tensor_file.write(self.path, {"digests": digests, "vectors": torch.stack([*known.values()])}, self._settings)
