"""The header of an .npy file, NumPy's format for one array; tunit writes it itself, so that its length never changes.

A later version of NumPy may write a longer or a shorter one. `numpy.load` reads them all.
"""

HEADER_BYTES = 128  # for any shape that tunit writes


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header, of version 1.0, for a uint8 array of this shape."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    body = text.ljust(HEADER_BYTES - 11).encode("ascii") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body
