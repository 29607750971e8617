"""LPIPS against the authors' example pairs and against PyTorch."""

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.evaluation import lpips as module
from esrgan_jax.evaluation.lpips import SHAPES, load_lpips, lpips, read_layers
from esrgan_jax.images.image_file import read_image
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import write_tensors

CONVOLUTIONS = ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1))  # index, stride, padding


@pytest.fixture(scope="module")
def random_tensors():
    """Returns random AlexNet features and LPIPS weights, by torchvision's names."""
    rng = np.random.default_rng(1)
    alexnet, linear = {}, {}
    for number, layer in enumerate(SHAPES):
        shape = (layer.outputs, layer.inputs, layer.size, layer.size)
        kernel = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        alexnet[f"features.{layer.position}.weight"] = kernel.astype(np.float32)
        bias = 0.1 * rng.standard_normal(layer.outputs, np.float32)
        alexnet[f"features.{layer.position}.bias"] = bias
        linear[f"lin{number}.model.1.weight"] = rng.random((1, layer.outputs, 1, 1), np.float32)
    return alexnet, linear


@pytest.fixture(scope="module")
def random_files(random_tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lpips")
    files = folder / "alexnet.npz", folder / "linear.npz"
    for file, tensors in zip(files, random_tensors, strict=True):
        write_tensors(file, tensors)
    return files


@pytest.fixture(scope="module")
def random_layers(random_files):
    return read_layers(*random_files)


@pytest.fixture(scope="module")
def real_files(shared_data):
    folder = shared_data / "metrics"
    return folder / "alexnet_features_torchvision.npz", folder / "lpips_alex_lin.npz"


@pytest.fixture(scope="module")
def example(shared_data):
    """Returns the authors' image `ref` and two distorted versions of it."""
    folder = shared_data / "metrics" / "lpips_example"
    return {name: read_image(folder / f"ex_{name}.png") for name in ("ref", "p0", "p1")}


def by_torch(alexnet, linear, a, b):
    """Returns LPIPS computed by torch in float64."""
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    def tensor(array):
        return torch.tensor(np.array(array), dtype=torch.float64)

    def features(image):
        x = tensor(image).permute(2, 0, 1)[None] / 255 * 2 - 1
        shift, scale = tensor([-0.030, -0.088, -0.188]), tensor([0.458, 0.448, 0.450])
        x = (x - shift[:, None, None]) / scale[:, None, None]
        for index, stride, padding in CONVOLUTIONS:
            if index in (3, 6):
                x = functional.max_pool2d(x, 3, 2)
            weight, bias = (tensor(alexnet[f"features.{index}.{k}"]) for k in ("weight", "bias"))
            x = functional.relu(functional.conv2d(x, weight, bias, stride, padding))
            yield x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)

    pairs = zip(features(a), features(b), strict=True)
    return sum(
        functional.conv2d((x - y) ** 2, tensor(linear[f"lin{n}.model.1.weight"])).mean().item()
        for n, (x, y) in enumerate(pairs)
    )


def images(rng, height, width):
    return rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "published"), [("p0", 0.722), ("p1", 0.138)])
def test_published_values_of_the_examples_are_reproduced(real_files, example, name, published):
    layers = read_layers(*real_files)
    value = lpips(layers, example["ref"], example[name])
    assert round(value, 3) == published
    expected = by_torch(*map(np.load, real_files), example["ref"], example[name])
    assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [(31, 31), (32, 45), (255, 64), (256, 47), (63, 259)])
def test_values_equal_those_of_pytorch(random_tensors, random_layers, rng, size):
    """Sizes: the smallest, ones that strides do not divide, and ones around padded sizes."""
    a, b = images(rng, *size)
    expected = by_torch(*random_tensors, a, b)
    assert lpips(random_layers, a, b) == pytest.approx(expected, rel=2e-6)


def test_equal_images_give_0_and_lpips_is_symmetric(random_layers, rng):
    a, b = images(rng, 40, 53)
    assert lpips(random_layers, a, a.copy()) == 0
    assert lpips(random_layers, a, b) == lpips(random_layers, b, a) > 0


def test_images_of_many_sizes_share_a_compiled_program(random_layers, rng):
    lpips(random_layers, *images(rng, 40, 50))
    programs = module._features._cache_size(), module._distance._cache_size()
    for size in [(41, 50), (99, 31), (256, 256)]:
        lpips(random_layers, *images(rng, *size))
    assert (module._features._cache_size(), module._distance._cache_size()) == programs


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((30, 40, 3), (30, 40, 3), r"31x31 px or more, got 40x30"),
        ((40, 40, 3), (40, 41, 3), r"\(40, 40, 3\) and \(40, 41, 3\) cannot be compared"),
        ((40, 40), (40, 40), r"\(H, W, 3\) uint8, got \(40, 40\) uint8"),
        ((40, 40, 4), (40, 40, 4), r"got \(40, 40, 4\) uint8"),
    ],
)
def test_wrong_shapes_are_refused(random_layers, a, b, message):
    with pytest.raises(InputError, match=message):
        lpips(random_layers, np.zeros(a, np.uint8), np.zeros(b, np.uint8))


def test_float_images_are_refused(random_layers):
    with pytest.raises(InputError, match=r"uint8, got .* float32"):
        lpips(random_layers, np.zeros((40, 40, 3), np.float32), np.zeros((40, 40, 3), np.float32))


def test_weights_are_found_in_a_read_only_cache(shared_data, example, monkeypatch):
    """Without a network connection, the repacked files of the cache are used."""
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(shared_data / "metrics"))
    monkeypatch.setattr(zoo, "download", None)
    assert round(load_lpips()(example["ref"], example["p1"]), 3) == 0.138


@pytest.mark.parametrize("zipped", [True, False])
def test_the_published_files_are_read(random_tensors, random_layers, tmp_path, zipped):
    """torchvision's file also has a classifier; the authors' file has PyTorch's old format."""
    torch = pytest.importorskip("torch")
    classifier = {"classifier.1.weight": np.ones((2, 3), np.float32)}
    files = tmp_path / "alexnet.pth", tmp_path / "linear.pth"
    for file, tensors in zip(files, random_tensors, strict=True):
        everything = {k: torch.tensor(v) for k, v in (tensors | classifier).items()}
        if file.stem == "linear":
            del everything["classifier.1.weight"]
        torch.save(everything, file, _use_new_zipfile_serialization=zipped)
    for layer, expected in zip(read_layers(*files), random_layers, strict=True):
        for tensor, original in zip(layer, expected, strict=True):
            np.testing.assert_array_equal(tensor, original)


@pytest.mark.parametrize(
    ("which", "name"),
    [(0, "features.6.bias"), (0, "features.0.weight"), (1, "lin4.model.1.weight")],
)
def test_a_missing_tensor_is_named(random_tensors, random_files, tmp_path, which, name):
    files = list(random_files)
    files[which] = tmp_path / "damaged.npz"
    write_tensors(files[which], {k: v for k, v in random_tensors[which].items() if k != name})
    with pytest.raises(InputError) as failure:
        read_layers(*files)
    assert str(failure.value).startswith(f"{files[which]}: not ")
    assert str(failure.value).endswith(f": missing: {name}")


def test_swapped_files_are_refused(random_files):
    with pytest.raises(InputError, match=r"not torchvision's AlexNet: missing: .*left over: lin0"):
        read_layers(*reversed(random_files))
