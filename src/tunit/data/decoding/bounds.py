"""The limits of decoding one picture: pixels, seconds and bytes."""

MAX_PIXELS = 178_956_970  # half a gibibyte of RGB; also Pillow's own limit
SECONDS = 10.0  # of CPU time for one picture of up to MAX_PIXELS; a photograph takes far less
MEMORY = 6  # decoding a picture may take this many bytes for each pixel of `max_pixels`
# Lower limits for the case that no worker process can be started: then a decoder that hangs cannot be stopped.
ALONE_PIXELS, ALONE_BYTES = 50_000_000, 1 << 25
_LEAST_MEMORY = 1 << 28  # bytes that a picture may always take, even if few pixels are allowed
REMEDY = "raise --max-pixels to allow it"


def seconds_for(max_pixels: int) -> float:
    """The seconds of CPU time that one picture may take."""
    return SECONDS * max(1.0, max_pixels / MAX_PIXELS)


def seconds_to_unpack(packed: int) -> float:
    """The seconds of CPU time that unpacking this many bytes may take in all."""
    return SECONDS + packed / 1e6  # bzip2, the slowest format, unpacks five megabytes of pictures per second


def memory_for(max_pixels: int) -> int:
    """The bytes of memory that decoding one picture may take."""
    return max(_LEAST_MEMORY, MEMORY * max_pixels)


def memory_detail(max_pixels: int) -> str:
    """The message for a picture that is left out because it took too much memory."""
    return f"decoding it takes more than {memory_for(max_pixels) / 2**30:.1f} GiB of memory: {REMEDY}"


def time_detail(seconds: float, work: str = "decoding") -> str:
    """The message for a picture or an archive that is left out because it took too long."""
    return f"{work} it takes more than {round(seconds, 1):g} s of CPU time"
