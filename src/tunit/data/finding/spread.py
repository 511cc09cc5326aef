"""A part of many pictures, or rows, that is evenly spread over them."""


def stride(number: int, most: int) -> int:
    """The smallest n for which every n-th of `number` pictures are at most `most`; at least 1."""
    return max(1, -(-number // most))
