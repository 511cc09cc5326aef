"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# The files that take longest. They come first, so that at the end no worker waits long for the other's last file.
LONG = (
    "training/test_launcher.py",
    "training/test_processes.py",
    "training/test_resume.py",
    "training/test_trainer.py",
    "training/alarms/test_joint_alarms.py",
    "test_docs.py",
    "training/test_number_of_domains.py",
    "methods/test_golden.py",
    "experiments/test_experiments.py",
    "test_soak.py",
    "test_wheel.py",
    "native/test_operators.py",
    "test_fuzz.py",
    "reporting/test_browser_folder.py",
    "test_benchmarks.py",
    "test_gpu_benchmarks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of `LONG` to the front."""
    order = {TESTS / name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path, len(LONG)))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """A training sets torch's number of threads for the whole process; reset it for the next test."""
    import torch

    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One CPU thread for torch: with tiny networks, threads mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def default_float64() -> Iterator[None]:
    """A program that computes in float64 by default, and uses tunit."""
    import torch

    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def narrow_vgg() -> Iterator[None]:
    """`random-vgg16` with 64 channels in every layer, for tests that do not depend on what it sees: a fifth of the
    multiplications, and a tenth of the weights.
    """
    from tunit.evaluation import trivial
    from tunit.features import random_vgg16

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_vgg16, "VGG16", [item if item == "M" else 1 for item in random_vgg16.VGG16])
        trivial._vgg.cache_clear()
        yield
    trivial._vgg.cache_clear()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a bucket on a real S3 server that runs on this machine."""
    moto = pytest.importorskip("moto.server", reason="needs moto and flask, a server of S3's protocol")
    from tunit.data.decoding.workers import close_workers

    fsspec = pytest.importorskip("fsspec", reason='needs pip install "tunit[cloud]"')
    s3fs = pytest.importorskip("s3fs", reason='needs pip install "tunit[cloud]"')
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        close_workers()  # processes that decode pictures: new ones get this environment
        s3fs.S3FileSystem.clear_instance_cache()  # connections to the server of another test
        fsspec.filesystem("s3").makedirs("s3://pictures", exist_ok=True)  # moto keeps it between servers
        yield "s3://pictures"
    close_workers()
    server.stop()
