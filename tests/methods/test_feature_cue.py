"""The cue "features": found where no other cue sees the kinds, computed once and in batches, and refused by name."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from packed_pictures import unlabelled
from stripes import striped_pictures
from tiny_step import config_of
from tunit.clustering.measures import reduced_cues
from tunit.clustering.neighbours import find_neighbours
from tunit.config import read_config
from tunit.errors import ConfigError, DataError
from tunit.features.feature_networks import FeatureNetwork, load_feature_network
from tunit.methods import feature_cue, final_domains, neighbourhood
from tunit.methods.feature_cue import FEATURES, all_cues, checked_feature_cue, features_cue, load_network
from tunit.methods.neighbourhood import look_for_neighbours, measures_just_chosen
from tunit.methods.tunit import TUNIT
from tunit.networks.guide import Guidance
from tunit.training.initial_state import new_state

pytestmark = pytest.mark.usefixtures("one_thread")
EACH = 20
CPU = torch.device("cpu")
SETTINGS = {
    "image_size": 64,
    "neighbours": 4,
    "neighbours_from": 0.2,
    "guide_only_until": 10,
    "steps": 20,
    "feature_cue": "random-vgg16",
}


@pytest.fixture(scope="module")
def striped():
    images, kinds = striped_pictures(EACH)
    return unlabelled(images), kinds


@pytest.fixture
def blind(monkeypatch):
    """E's codes say nothing about the pictures."""

    def noise(guide, batches):
        number = sum(len(x) for x in batches)
        codes = torch.randn(number, 16, generator=torch.Generator().manual_seed(0))
        return Guidance(torch.zeros(number, 3), codes)

    monkeypatch.setattr(neighbourhood, "guidance_over", noise)


class Counting:
    """A fake network: it sees the lowest bits of a picture's first pixel, and remembers how many pictures it saw."""

    def __init__(self, kinds=3):
        self.kinds, self.batches, self.loaded = kinds, [], 0

    def __call__(self, name, **named):
        self.loaded += 1
        return FeatureNetwork(name, self.features, CPU)

    def features(self, x):
        self.batches.append(len(x))
        kind = (255 * x[:, 0, 0, 0]).round().long() % self.kinds
        return 5.0 * F.one_hot(kind, self.kinds) + 0.1 * x[:, :, 1, 1]


@pytest.fixture
def counting(monkeypatch):
    fake = Counting()
    monkeypatch.setattr(feature_cue, "load_feature_network", fake)
    return fake


def share_of_same_kind(table, kinds):
    return (kinds[table.numpy()] == kinds[:, None]).mean()


def test_no_other_cue_sees_the_stripes(striped):
    """Or the tests below would say nothing."""
    pictures, kinds = striped
    for cue in reduced_cues(pictures.images).values():
        assert share_of_same_kind(find_neighbours([cue], 4), kinds) < 0.45


@pytest.mark.parametrize("domains", [3, "auto"])
def test_neighbours_are_found_by_features_where_nothing_else_sees_the_kinds(striped, blind, domains):
    pictures, kinds = striped
    config = config_of(**SETTINGS | {"domains": domains, "most_domains": 3})
    state = new_state(config, CPU, len(kinds))
    state.step = 2
    look_for_neighbours(state, pictures, config)
    assert measures_just_chosen(state) == [FEATURES]
    assert share_of_same_kind(state.own.table, kinds) > 0.95

    without = config.with_overrides({"feature_cue": ""})
    state = new_state(without, CPU, len(kinds))
    state.step = 2
    look_for_neighbours(state, pictures, without)
    assert FEATURES not in measures_just_chosen(state) and FEATURES not in state.own.cues
    assert share_of_same_kind(state.own.table, kinds) < 0.6


def test_the_final_division_may_be_that_of_the_features(striped, blind):
    pictures, kinds = striped
    config = config_of(**SETTINGS)
    state = new_state(config, CPU, len(kinds))
    state.step = 2
    look_for_neighbours(state, pictures, config)
    rows = np.arange(len(kinds))
    rng = torch.Generator().manual_seed(0)
    shape = {"styles": 16, "features": 32}
    blank = {name: torch.randn(len(rows), width, generator=rng) for name, width in shape.items()}
    heads = torch.rand(1, len(rows), 3, generator=rng)
    cues = all_cues(state, pictures, config, rows)
    assert list(cues) == ["colours", "shapes", "outlines", "textures", FEATURES]
    outputs = final_domains.GuideOutput(rows, heads=heads, heads_learnt=True, cues=cues, **blank)
    found = final_domains.partition(outputs, 3, None, state, pictures, 0)
    assert adjusted_rand_score(kinds, found) > 0.95


def test_the_number_of_domains_is_confirmed_by_features_too(monkeypatch, counting):
    """E's codes show six groups; one cue, the features, shows that they are three kinds cut in halves."""
    each = 120
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (each * 3, 32, 32, 3), dtype=np.uint8)
    kinds = images[:, 0, 0, 0].astype(int) % 3
    halves = 2 * kinds + (rng.uniform(size=len(images)) > 0.5)
    codes = 7 * np.eye(6)[halves] + rng.normal(size=(len(images), 6))
    given = {}
    real = final_domains.choose_number

    def seen(styles, most, seed, cues):
        found = real(styles, most, seed, cues)
        given.update(cues)
        return found

    def outputs(state, pictures, config):
        rows = np.arange(len(images))
        styles = F.normalize(torch.from_numpy(codes).float(), dim=1)
        cues = all_cues(state, pictures, config, rows)
        heads = torch.rand(1, len(rows), 12)
        return final_domains.GuideOutput(rows, styles, styles, heads, True, cues)

    monkeypatch.setattr(final_domains, "choose_number", seen)
    monkeypatch.setattr(final_domains, "outputs_of", outputs)
    numbers = {}
    for name in ("", "dinov2"):
        config = config_of(domains="auto", most_domains=12, guide_only_until=10, steps=20, feature_cue=name)
        state = new_state(config, CPU, len(images))
        final_domains.find_number(state, unlabelled(images), config)
        numbers[name] = state.choice
    assert [numbers[name].domains for name in ("", "dinov2")] == [6, 3]
    assert FEATURES in given
    said = "(neither colours nor shapes, outlines, textures or features separate them)"
    assert any(said in reason for reason in numbers["dinov2"].reasons)


def test_features_are_of_length_1_and_reduced_to_principal_components(striped):
    images = striped[0].images[:10]
    network = load_feature_network("random-vgg16")
    found = features_cue(images, "random-vgg16", CPU)
    features = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    whole = (features / features.square().sum(1, keepdim=True).sqrt()).double().numpy()
    np.testing.assert_allclose(found, whole, atol=1e-6)  # so few pictures are not reduced

    images = striped_pictures(24)[0]  # 72: more than 64 components
    found = features_cue(images, "random-vgg16", CPU).double()
    features = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).double()
    whole = (features / features.square().sum(1, keepdim=True).sqrt()).numpy()
    expected = PCA(64, svd_solver="full").fit_transform(whole)
    assert found.shape == (72, 64)
    # The directions of small components are uncertain; distances between pictures are not.
    distances = torch.cdist(found, found), torch.cdist(*[torch.from_numpy(expected)] * 2)
    torch.testing.assert_close(*distances, atol=1e-3, rtol=0)


def test_the_network_sees_a_batch_at_a_time_and_fewer_large_pictures(counting):
    features_cue(np.zeros((150, 32, 32, 3), np.uint8), "dinov2", CPU)
    assert counting.batches == [64, 64, 22]
    counting.batches.clear()
    features_cue(np.zeros((40, 256, 256, 3), np.uint8), "dinov2", CPU)
    assert counting.batches == [16, 16, 8]


def test_only_the_given_rows_are_looked_at(counting):
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    rows = np.array([3, 4, 20])
    found = features_cue(images, "dinov2", CPU, rows)
    assert counting.batches == [3]
    assert torch.equal(found, features_cue(images[rows], "dinov2", CPU))


def test_the_network_looks_once_for_all_searches_and_the_division(counting):
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    config = config_of(**SETTINGS | {"image_size": 32, "neighbours_every": 3, "feature_cue": "dinov2"})
    state, pictures = new_state(config, CPU, 30), unlabelled(images)
    said = []
    for state.step in range(10):
        said.append(TUNIT.announce(state, pictures, config))
        look_for_neighbours(state, pictures, config)
    divided = final_domains.outputs_of(state, pictures, config).cues
    assert (counting.loaded, counting.batches) == (1, [30])
    assert said[2] == (
        "now the network 'dinov2' looks at the pictures (--feature-cue), which takes a while on a CPU"
    )
    assert [step for step, line in enumerate(said) if "looks at" in line] == [2]
    # A resumed run has not kept them: it computes the same again.
    state.own.cues = {}
    again = final_domains.outputs_of(state, pictures, config).cues
    assert torch.equal(again[FEATURES], divided[FEATURES])
    assert counting.loaded == 2


def test_of_many_pictures_the_division_takes_those_that_it_looks_at(counting, monkeypatch):
    """With neighbours their features are in the table of all; without, no others are computed."""
    monkeypatch.setattr(final_domains, "MOST_PICTURES", 10)
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    rows = final_domains.evenly_spread(30, 10)
    for neighbours, seen in ((4, [30]), (0, [10])):
        counting.batches.clear()
        changes = {"image_size": 32, "neighbours": neighbours, "domains": "auto", "feature_cue": "dinov2"}
        config = config_of(**SETTINGS | changes)
        state = new_state(config, CPU, 30)
        state.step = 9
        comes = TUNIT.announce(state, unlabelled(images), config)
        assert comes.startswith("after this step the network 'dinov2' looks at the pictures")
        found = final_domains.outputs_of(state, unlabelled(images), config).cues[FEATURES]
        assert counting.batches == seen
        whole = features_cue(images, "dinov2", CPU)
        assert torch.equal(found, whole[torch.from_numpy(rows)])


def test_features_that_are_not_finite_are_refused(monkeypatch):
    network = FeatureNetwork("broken", lambda x: x.mean((2, 3)) / 0 * 0, CPU)
    monkeypatch.setattr(feature_cue, "load_feature_network", lambda *given, **named: network)
    with pytest.raises(DataError, match="broken gives features that are not finite"):
        features_cue(np.zeros((3, 32, 32, 3), np.uint8), "dinov2", CPU)


def test_random_numbers_do_not_advance():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    features_cue(np.zeros((3, 32, 32, 3), np.uint8), "random-vgg16", CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "randomvgg",
            "feature_cue is 'randomvgg', which is neither a known feature network nor a file: take random-vgg16, "
            "inception, dinov2, or the path of MoCo v2's checkpoint (.pth.tar): did you mean 'random-vgg16'?",
        ),
        ("{folder}/none.pth.tar", "none.pth.tar', which is neither a known feature network nor a file"),
        ("{folder}", "which is neither a known feature network nor a file"),
        ("{folder}/damaged.pth.tar", "damaged.pth.tar is not loaded (.*): give the published MoCo v2 checkp"),
        (
            "{folder}/program.pt",
            "program.pt', a program that can do anything on this machine whenever the run is resumed: take random-",
        ),
        ("{folder}/photo.jpg", "photo.jpg', which is not a feature network: take random-vgg16,"),
        ("moco-v2", "moco-v2 is not downloaded, .* and give --feature-cue FILE"),
        (
            "inception",
            "cannot be downloaded .*: give it by --feature-cue FILE, or --feature-cue random-vgg16",
        ),
    ],
)
def test_a_network_that_cannot_be_used_is_refused_in_a_sentence(name, sentence, tmp_path, monkeypatch):
    monkeypatch.setenv("TUNIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tunit.features.feature_networks.INCEPTION_ADDRESS", "http://127.0.0.1:9/net.pt")
    (tmp_path / "damaged.pth.tar").write_bytes(b"PK\3\4 and then nothing")
    (tmp_path / "program.pt").write_bytes(b"PK\3\4")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    config = config_of(**SETTINGS | {"feature_cue": name.format(folder=tmp_path)})
    pattern = re.escape(sentence).replace(r"\.\*", ".*")
    with pytest.raises(ConfigError, match=pattern):
        checked_feature_cue(config)
    unused = config.with_overrides({"neighbours": 0})
    assert checked_feature_cue(unused) == unused


def test_paper_and_presets_have_no_feature_network():
    assert {read_config(name).clustering.feature_cue for name in ("paper", "default", "small", "demo")} == {
        ""
    }


def test_a_network_is_loaded_for_the_device(monkeypatch):
    asked = []
    monkeypatch.setattr(feature_cue, "load_feature_network", lambda *given, **named: asked.append(named))
    load_network("dinov2", torch.device("meta"))
    assert asked == [{"device": torch.device("meta"), "flag": "--feature-cue"}]
