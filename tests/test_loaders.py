"""The rule for loaders that may run code, checked in the source.

- Only `tunit.files.pickles` reads a pickle, by `torch.load` with an explicit `weights_only=True`.
- Only `tunit.features.feature_networks` loads a program (TorchScript, .pt2), and only if the user trusts it.
- `tunit.translation.export` loads, from memory, the .pt2 program that it has just saved, to compare it.
- `data/decoding/worker_process.py` receives pickles from tunit's own processes through pipes, never from a file, as
  Python's multiprocessing does.
- NumPy loads with an explicit `allow_pickle=False`; a model from a hub is a safetensors file.
- No other function that turns a file into code or objects is called anywhere.
"""

import ast
from pathlib import Path

import pytest

import tunit

SOURCE = Path(tunit.__file__).parent
# Dotted name of the call -> the only files where it is allowed, and the argument that must be explicit.
ALLOWED = {
    "pickle.load": (("data/decoding/worker_process.py",), {}),
    "torch.load": (("files/pickles.py",), {"weights_only": True}),
    "torch.jit.load": (("features/feature_networks.py",), {}),
    "torch.export.load": (("features/feature_networks.py", "translation/export.py"), {}),
    "from_pretrained": (("features/feature_networks.py",), {"use_safetensors": True}),
    "np.load": ((), {"allow_pickle": False}),
    "numpy.load": ((), {"allow_pickle": False}),
}
FORBIDDEN = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "pickle.loads",
        "pickle.Unpickler",
        "marshal.load",
    ),
    *(
        "marshal.loads",
        "shelve.open",
        "joblib.load",
        "yaml.load",
        "dill.load",
        "torch.hub.load",
        "torch.package",
    ),
    *(
        "torch.ops.load_library",
        "torch.classes.load_library",
        "torch._inductor.aoti_load_package",
        "np.fromregex",
    ),
    *("torch.hub.load_state_dict_from_url", "os.system", "os.popen"),
}
LAST_PARTS = {"load_state_dict_from_url", "from_pretrained", "load_library", "aoti_load_package", "Unpickler"}


def dotted(node):
    """`a.b.c` for an expression, with ? for parts that are not names."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def problems(text, name):
    tree = ast.parse(text)
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            aliases |= {item.asname or item.name: f"{node.module}.{item.name}" for item in node.names}
        elif isinstance(node, ast.Import):
            aliases |= {item.asname: item.name for item in node.names if item.asname}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        first, _, rest = called.partition(".")
        called = aliases.get(first, first) + ("." + rest if rest else "")
        last = called.rpartition(".")[2]
        if called.startswith("re."):
            continue
        key = last if last in ALLOWED else called
        if key in ALLOWED:
            places, needed = ALLOWED[key]
            given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
            if (places and name not in places) or any(given.get(k, "") is not v for k, v in needed.items()):
                found.append(f"{name}:{node.lineno} {called}")
        elif called in FORBIDDEN or last in LAST_PARTS:
            found.append(f"{name}:{node.lineno} {called}")
    return found


def test_no_loader_in_the_source_runs_foreign_code():
    found = []
    for path in SOURCE.rglob("*.py"):
        found += problems(path.read_text("utf-8"), path.relative_to(SOURCE).as_posix())
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=True)",  # correct, but in the wrong file
        "from torch import load as l\nl(p, weights_only=False)",
        "import torch as t\nt.jit.load(p)",
        "import numpy as np\nnp.load(p)",
        "from numpy import load\nload(p, allow_pickle=True)",
        "import pickle as p\np.loads(b)",
        "import pickle\npickle.load(file)",  # everywhere except in data/decoding/worker_process.py
        "eval(text)",
        "Model.from_pretrained(name)",
    ],
)
def test_the_check_notices_an_unsafe_loader(line):
    assert problems(line, "data/somewhere.py")
