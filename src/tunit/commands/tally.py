"""What `tunit domains` keeps of each picture, in memory and in the record of an unfinished job."""

import heapq
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import compress, decompressobj

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class PictureOutput(NamedTuple):
    """What E says about a picture, and what it looks like."""

    domain: int
    confidence: float  # the probability of that domain
    appearance: "NDArray[np.float32]"  # (width,), see tunit.clustering.outliers
    thumbnail: "NDArray[np.uint8] | None"  # (S, S, 3); None if no gallery needs it

    def as_json(self) -> list[Any]:
        """All of it, exactly, as a JSON value."""
        packed = None if self.thumbnail is None else b64encode(compress(self.thumbnail.tobytes(), 1)).decode()
        return [self.domain, self.confidence, b64encode(self.appearance.tobytes()).decode(), packed]


def picture_output_of(value: Any, domains: int, width: int, side: int) -> PictureOutput | None:
    """What `as_json` wrote, for this many domains, width of an appearance and side of thumbnails; None for anything
    else.
    """
    import numpy as np

    match value:
        case [int(domain), float(confidence), str(looks), str() | None as packed] if 0 <= domain < domains:
            try:
                cues = b64decode(looks, validate=True)
                pixels = (
                    None
                    if packed is None
                    else decompressobj().decompress(b64decode(packed), side * side * 3 + 1)
                )
            except Exception:  # zlib and base64 have their own errors
                return None
            if (
                len(cues) == 4 * width
                and 0 <= confidence <= 1
                and (pixels is None or len(pixels) == side * side * 3)
            ):
                shape = (side, side, 3)
                thumbnail = None if pixels is None else np.frombuffer(pixels, np.uint8).reshape(shape)
                return PictureOutput(domain, confidence, np.frombuffer(cues, np.float32), thumbnail)
    return None


class Tally:
    """What was found for each picture, and thumbnails of the most confident pictures of every domain."""

    def __init__(self, domains: int, per_domain: int) -> None:
        self.rows: list[tuple[str, int, float]] = []  # picture, domain, confidence
        self.appearances: list[NDArray[np.float32]] = []  # one for each picture
        self.sizes = [0] * domains
        self._confidences = [0.0] * domains  # summed over the pictures of each domain
        self._per_domain = per_domain
        # Heaps with the smallest confidence first. Of equal confidences, the picture with the lower row number ranks
        # higher.
        self._best: list[list[tuple[float, int, NDArray[np.uint8]]]] = [[] for _ in range(domains)]

    def add(self, name: str, output: PictureOutput) -> bool:
        """Add one picture. Returns whether its thumbnail, which is copied, belongs to the best so far."""
        rank = (output.confidence, -len(self.rows))
        self.rows.append((name, output.domain, output.confidence))
        self.appearances.append(output.appearance)
        self.sizes[output.domain] += 1
        self._confidences[output.domain] += output.confidence
        best = self._best[output.domain]
        if output.thumbnail is None:
            return False
        if len(best) < self._per_domain:
            heapq.heappush(best, (*rank, output.thumbnail.copy()))
        elif rank > best[0][:2]:
            heapq.heapreplace(best, (*rank, output.thumbnail.copy()))
        else:
            return False
        return True

    def outliers(self) -> "NDArray[np.float64]":
        """How far off-topic each picture is, from 0 to 1, in the order in which the pictures were added."""
        import numpy as np

        from tunit.clustering.outliers import no_appearance, outlier_scores

        return outlier_scores(np.stack(self.appearances) if self.appearances else no_appearance())

    def mean_confidence(self, domain: int) -> float:
        """The mean confidence over the pictures of a domain, which must not be empty."""
        return self._confidences[domain] / self.sizes[domain]

    def best(self, domain: int) -> "list[Image.Image]":
        """The pictures that belong most clearly to a domain, the most confident first."""
        from PIL import Image

        ranked = sorted(self._best[domain], key=lambda entry: entry[:2], reverse=True)
        return [Image.fromarray(pixels) for *_, pixels in ranked]
