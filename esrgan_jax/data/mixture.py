"""A mixture of data sets, each of which gives a share of the patches."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from esrgan_jax.data.sources import Source


class Mixture:
    """Several sources one after the other, as a `sources.Source`.

    Attributes:
        parts: The number of images and the weight of each source, for `make_dataset`.
    """

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]) -> None:
        self._sources = sources
        self._ends = list(itertools.accumulate(map(len, sources)))
        self.parts = list(zip(map(len, sources), weights, strict=True))
        self.decodes = any(source.decodes for source in sources)
        self.decoded_bytes = sum(source.decoded_bytes for source in sources)

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        index = range(len(self))[index]
        number = bisect.bisect_right(self._ends, index)
        return self._sources[number][index - self._ends[number]]  # from its end

    def files(self) -> dict[str, int]:
        """See `Source`; names begin with the number of the source."""
        parts = enumerate(source.files().items() for source in self._sources)
        return {f"{number}/{name}": size for number, files in parts for name, size in files}
