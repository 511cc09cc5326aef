"""Feature networks: seeded, named, loaded from files, or refused with a sentence."""

import hashlib
import http.server
import io
import os
import socketserver
import threading
import warnings
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tunit.errors import ConfigError, DataError
from tunit.failures import sentence_of
from tunit.features import feature_networks, imagenet
from tunit.features.feature_networks import FeatureNetwork, inception_input, load_feature_network
from tunit.features.of_pictures import content_key, features_of
from tunit.files import download
from tunit.networks.tensor_file import write_tensors

pytestmark = pytest.mark.usefixtures("one_thread")
PICTURES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


class Means(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x.mean((2, 3))


def test_features_are_not_rounded_to_tf32_on_a_gpu(monkeypatch):
    used = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # PyTorch's default

    def extract(x):
        used.append(torch.backends.cudnn.allow_tf32)
        return x

    FeatureNetwork("it", extract, torch.device("cpu"))(torch.zeros(1, 3, 4, 4))
    assert used == [False]


class Layers(nn.Module):
    """A stand-in for the Inception network, or for a network whose `layers` give other features: the means of its
    input, and zeros.
    """

    def __init__(self, width=2048):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ConstantPad1d((0, width - 3), 0.0)
        )

    def forward(self, x):
        return 2 * self.layers(x)


def save_script(network, side, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, torch.zeros(1, 3, side, side)).save(path)


@pytest.fixture(scope="module")
def vgg():
    return load_feature_network("random-vgg16")


def test_random_vgg_is_always_the_same_and_distinguishes_pictures(vgg):
    first = features_of(PICTURES, vgg)
    second = features_of(PICTURES, load_feature_network("random-vgg16"))
    assert first.shape == (5, 1024)
    assert torch.equal(first, second)
    distances = torch.cdist(first, first) + torch.eye(5) * 1e9
    assert distances.min() > 0.1 * first.norm(dim=1).mean() * 0.1
    assert vgg.name == "random-vgg16"


def test_random_vgg_weights_do_not_use_the_global_generator(vgg):
    torch.manual_seed(123)
    torch.randn(7)
    state = torch.get_rng_state()
    other = load_feature_network("random-vgg16")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(features_of(PICTURES[:1], vgg), features_of(PICTURES[:1], other))


def test_random_vgg_is_the_same_whatever_the_default_dtype(vgg, default_float64):
    assert torch.equal(
        features_of(PICTURES, load_feature_network("random-vgg16")), features_of(PICTURES, vgg)
    )


def test_a_torchscript_file_gets_pictures_from_0_to_1(tmp_path):
    path = tmp_path / "means.pt"
    save_script(Means(), 32, path)
    network = load_feature_network(str(path), trust=True)
    expected = PICTURES.astype(np.float64).mean((1, 2)) / 255
    np.testing.assert_allclose(features_of(PICTURES, network), expected, rtol=1e-5)
    assert network.name.split()[0] == "means.pt"


def test_an_exported_file_works_too(tmp_path):
    path = tmp_path / "means.pt2"
    dynamic = {"x": {0: torch.export.Dim("batch", min=1, max=256)}}
    torch.export.save(
        torch.export.export(Means(), (torch.zeros(4, 3, 32, 32),), dynamic_shapes=dynamic), path
    )
    features = features_of(PICTURES, load_feature_network(str(path), trust=True))
    np.testing.assert_allclose(features, PICTURES.mean((1, 2)) / 255, rtol=1e-5)


def test_the_inception_file_is_recognised_by_its_layers(tmp_path):
    path = tmp_path / "any.pt"
    save_script(Layers(), 299, path)
    names = [load_feature_network(str(path), preprocessing=p, trust=True).name for p in ("clean", "legacy")]
    assert [name.split(" of any.pt ")[0] for name in names] == ["inception (clean)", "inception (legacy)"]
    plain = np.full((2, 32, 32, 3), 191, np.uint8)
    clean, legacy = (
        features_of(plain, load_feature_network(str(path), preprocessing=p, trust=True))
        for p in ("clean", "legacy")
    )
    torch.testing.assert_close(clean[:, :3], torch.full((2, 3), (191 - 128) / 128), atol=1e-4, rtol=0)
    mean, std = torch.tensor(imagenet.IMAGENET_MEAN), torch.tensor(imagenet.IMAGENET_STD)
    torch.testing.assert_close(legacy[0, :3], 2 * (191 / 255 - mean) / std - 1, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", [32, 299])
def test_another_network_with_layers_is_not_taken_for_the_inception_network(tmp_path, side):
    path = tmp_path / "mine.pt"
    save_script(Layers(width=9), side, path)
    network = load_feature_network(str(path), trust=True)
    assert network.name.startswith("mine.pt ")
    with pytest.raises(ConfigError, match=r"legacy has no effect with .*mine\.pt, which is not the FID"):
        load_feature_network(str(path), preprocessing="legacy", trust=True)
    features = features_of(PICTURES, network)
    np.testing.assert_allclose(features[:, :3], 2 * PICTURES.mean((1, 2)) / 255, rtol=1e-5)


def test_memory_that_runs_out_says_nothing_about_the_network():
    network = nn.Module()
    for error in (torch.OutOfMemoryError("CUDA out of memory"), ValueError("another size")):
        network.layers = Fails(error)
        if isinstance(error, ValueError):
            assert not feature_networks._is_inception(network, torch.device("cpu"))
        else:
            with pytest.raises(torch.OutOfMemoryError):
                feature_networks._is_inception(network, torch.device("cpu"))


class Fails(nn.Module):
    """A network that fails with this error."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, *args, **kwargs):
        raise self.error


def test_another_network_of_the_same_file_name_has_another_name_and_other_features(tmp_path):
    path, found = tmp_path / "net.pt", []
    for factor in (1, 5):
        save_script(Scaled(factor), 32, path)
        network = load_feature_network(str(path), trust=True)
        found.append((network.name, features_of(PICTURES, network, cache=tmp_path / "cache")))
    assert found[0][0] != found[1][0]
    torch.testing.assert_close(found[1][1], 5 * found[0][1])


def test_legacy_resizes_by_nearest_pixel_and_clean_with_antialiasing():
    x = torch.rand(1, 3, 598, 598, generator=torch.Generator().manual_seed(0))
    legacy = inception_input(x, legacy=True)
    nearest = (x[:, :, ::2, ::2] - torch.tensor(imagenet.IMAGENET_MEAN)[:, None, None]) / torch.tensor(
        imagenet.IMAGENET_STD
    )[:, None, None]
    torch.testing.assert_close(legacy, 2 * nearest - 1)
    clean = inception_input(x, legacy=False)
    expected = (255 * F.interpolate(x, (299, 299), mode="bicubic", antialias=True).clamp(0, 1) - 128) / 128
    torch.testing.assert_close(clean, expected)
    # Random pixels average to grey only if the resize uses all of them.
    assert clean.std() < 0.8 * (2 * x - 1).std()


@pytest.mark.parametrize(
    ("name", "message"),
    [("no-such", "neither a file nor a known name"), ("pickle.pt", "is not a TorchScript or .pt2 network")],
)
def test_a_file_that_is_not_a_network_is_refused_with_a_sentence(tmp_path, name, message):
    (tmp_path / "pickle.pt").write_bytes(b"\x80\x04K\x01.")
    path = str(tmp_path / name) if name.endswith(".pt") else name
    with pytest.raises(ConfigError, match=message):
        load_feature_network(path, trust=True)


class Writes:
    """Creates a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A .pt2 file of a small network."""
    path = tmp_path_factory.mktemp("exported") / "means.pt2"
    torch.export.save(torch.export.export(Means(), (torch.zeros(4, 3, 32, 32),)), path)
    return path


def test_code_in_a_pt2_file_runs_only_if_the_user_trusts_it(tmp_path, exported):
    pickled, trace, path = io.BytesIO(), tmp_path / "trace", tmp_path / "evil.pt2"
    torch.save(Writes(str(trace)), pickled)
    with zipfile.ZipFile(exported) as good, zipfile.ZipFile(path, "w") as evil:
        for name in good.namelist():
            whole = good.read(name)
            evil.writestr(name, pickled.getvalue() if name.endswith("sample_inputs/model.pt") else whole)
    with pytest.raises(ConfigError, match="give --trust-features, too, if you know who made it"):
        load_feature_network(str(path))
    assert not trace.exists()
    with pytest.raises(ConfigError, match=r"evil\.pt2"):
        features_of(PICTURES, load_feature_network(str(path), trust=True))
    assert trace.exists()  # the attack really works


def test_torchscript_must_be_trusted_unless_it_is_the_known_inception(tmp_path, monkeypatch):
    path = tmp_path / "any.pt"
    save_script(Layers(), 299, path)
    with pytest.raises(ConfigError, match="--trust-features"):
        load_feature_network(str(path))
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(feature_networks, "INCEPTION_SHA256", known)
    assert load_feature_network(str(path)).name == "inception (clean)"


def test_a_network_that_fails_on_pictures_is_one_sentence(exported):
    network = load_feature_network(str(exported), trust=True)  # exported for batches of exactly 4
    with pytest.raises(ConfigError, match=r"means.pt2 does not take pictures of shape \(5, 3, 32, 32\)"):
        features_of(PICTURES, network)


class Large(nn.Module):
    def forward(self, x):
        return x.new_zeros(len(x), 1 << 50)


def test_memory_that_runs_out_in_a_network_says_nothing_about_it(tmp_path, monkeypatch):
    """The command line's sentence says what helps then; another network would not."""
    path = tmp_path / "large.pt"
    with pytest.raises(RuntimeError, match="allocate memory") as raised:
        feature_networks._guarded(path, Large())(torch.zeros(5, 3, 32, 32))
    assert sentence_of(raised.value).startswith("there is not enough memory")
    path.write_bytes(b"")
    monkeypatch.setattr(torch.jit, "load", Fails(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        load_feature_network(str(path), trust=True)


def test_unknown_preprocessing_and_dinov2_without_its_package(monkeypatch):
    with pytest.raises(ConfigError, match="preprocessing is 'best'"):
        load_feature_network(preprocessing="best")
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"tunit\[dinov2\]"):
        load_feature_network("dinov2")


def test_features_are_cached_by_the_content_of_pictures(tmp_path):
    calls = []

    def counting(x):
        calls.append(len(x))
        return x.mean((2, 3))

    network = feature_networks.FeatureNetwork("counting", counting, torch.device("cpu"))
    first = features_of(PICTURES, network, cache=tmp_path)
    assert torch.equal(features_of(PICTURES.copy(), network, cache=tmp_path), first)
    assert calls == [2, 5, 2]  # two pictures show whether the network is the same
    features_of(PICTURES[::-1], network, cache=tmp_path)
    assert calls[3:] == [2, 5]
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-3])  # a damaged cache file is computed again
    assert torch.equal(features_of(PICTURES, network, cache=tmp_path), first)
    assert calls[5:] == [2, 5]
    assert content_key(PICTURES, "a") != content_key(PICTURES, "b")


def test_kept_features_of_other_weights_or_pictures_are_not_used(tmp_path):
    def network(factor):
        return FeatureNetwork("net", lambda x: factor * x.mean((2, 3)), torch.device("cpu"))

    others = PICTURES.copy()
    others[2:] = 255 - others[2:]  # the first two, with which the network is checked, stay the same
    for factor, pictures in ((1, others), (1, PICTURES), (3, PICTURES), (1, PICTURES)):
        found = features_of(pictures, network(factor), cache=tmp_path)
        assert torch.equal(found, features_of(pictures, network(factor)))
    ours, theirs = (tmp_path / f"{content_key(of, 'net')}.safetensors" for of in (PICTURES, others))
    theirs.replace(ours)  # a file under a name that is not its own
    assert torch.equal(features_of(PICTURES, network(1), cache=tmp_path), features_of(PICTURES, network(1)))
    write_tensors(ours, {"features": torch.zeros(5, 3)}, {"network": "net"})  # as older versions wrote it
    assert torch.equal(features_of(PICTURES, network(1), cache=tmp_path), features_of(PICTURES, network(1)))


def test_features_with_nan_or_infinity_are_refused():
    broken = feature_networks.FeatureNetwork("broken", lambda x: x.mean((2, 3)) / 0 * 0, torch.device("cpu"))
    with pytest.raises(DataError, match="not finite for 5 of 5 pictures"):
        features_of(PICTURES, broken)


@pytest.fixture
def server():
    """A server that returns b"weights" and counts the requests."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"weights")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/net.pt", asked
        httpd.shutdown()
        thread.join()


def test_a_file_is_downloaded_once_and_its_checksum_compared(server, tmp_path, monkeypatch):
    address, asked = server
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path))
    good = hashlib.sha256(b"weights").hexdigest()
    for _ in range(2):
        assert download.fetched(address, good, "--features FILE").read_bytes() == b"weights"
    assert len(asked) == 1
    (tmp_path / "net.pt").write_bytes(b"torn")
    assert download.fetched(address, good, "--features FILE").read_bytes() == b"weights"
    with pytest.raises(ConfigError, match="has changed"):
        download.fetched(address, "0" * 64, "--features FILE")
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nweigh", "it ended after 5 of 9,000 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwe", "IncompleteRead"),
        (b"no \x1b HTTP\r\n\r\n", "no .* HTTP"),
    ],
)
def test_a_download_that_ends_early_is_not_a_changed_file(tmp_path, monkeypatch, answer, reason):
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path))

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(10_000)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as broken:
        thread = threading.Thread(target=broken.handle_request, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{broken.server_address[1]}/net.pt"
        with pytest.raises(ConfigError, match=rf"cannot be downloaded \(.*{reason}") as caught:
            download.fetched(address, "0" * 64, "--features FILE")
        thread.join()
    assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_an_unreachable_address_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path))
    monkeypatch.setattr(feature_networks, "INCEPTION_ADDRESS", "http://127.0.0.1:9/net.pt")
    with pytest.raises(ConfigError, match=r"cannot be downloaded .*give it by --features FILE") as caught:
        load_feature_network("inception")
    assert "\n" not in str(caught.value)
