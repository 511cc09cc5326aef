"""Check that the packages that only the studio needs are installed."""

from importlib.util import find_spec

from tunit.errors import ConfigError

NEEDED = ("starlette", "uvicorn", "python_multipart")


def check_packages() -> None:
    """Raises ConfigError if a package is missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f'the studio needs {", ".join(missing)}, which is not installed: pip install "tunit[studio]"'
        )
