"""How much memory there is for pictures."""

from pathlib import Path

import torch

UNKNOWN = 2**32  # bytes that are assumed where the system does not say
PICTURES_SHARE = (
    0.25  # of the free memory that pictures may fill; networks and their activations need the rest
)


def available_bytes() -> int:
    """The memory that this machine has to give, as far as the system says."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return UNKNOWN


def room_for_pictures(device: torch.device) -> int:
    """The bytes of pictures that may stay on `device`."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    return int(PICTURES_SHARE * free)
