"""Tests that weights of other public implementations give the same results as in torch."""

import jax
import numpy as np
import pytest

from esrgan_jax.app.networks import check_weights
from esrgan_jax.checkpoint import load_generator
from esrgan_jax.errors import InputError
from esrgan_jax.interop import rrdb_names
from esrgan_jax.interop.rrdb_dialects import DIALECTS, without_prefix
from esrgan_jax.interop.weight_file import write_tensors
from esrgan_jax.models.rrdb import RRDBNet

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn.functional import interpolate, leaky_relu  # noqa: E402

NF, GC = 6, 4


def conv(columns: int, rows: int) -> nn.Conv2d:
    return nn.Conv2d(columns, rows, 3, 1, 1)


def activated(columns: int, rows: int) -> nn.Sequential:
    return nn.Sequential(conv(columns, rows), nn.LeakyReLU(0.2))


class Dense(nn.Module):
    """A dense block; `make` creates its convolutions and `names` names them."""

    def __init__(self, make, names):
        super().__init__()
        self.convs = []
        for index, name in enumerate(names):
            rows = GC if index < 4 else NF
            layer = (make if index < 4 else conv)(NF + index * GC, rows)
            self.add_module(name, layer)
            self.convs.append(layer)

    def forward(self, x):
        features = [x]
        for layer in self.convs[:4]:
            y = layer(torch.cat(features, 1))
            features.append(y if isinstance(layer, nn.Sequential) else leaky_relu(y, 0.2))
        return x + 0.2 * self.convs[4](torch.cat(features, 1))


class Lornatang(nn.Module):
    """Lornatang's ESRGAN-PyTorch: of 2020 (`old`) or newer."""

    def __init__(self, old: bool, steps: int, blocks: int = 2):
        super().__init__()
        names, rdb = [f"conv{c}" for c in range(1, 6)], "RDB" if old else "rdb"

        def block():
            module = nn.Module()
            for r in (1, 2, 3):
                module.add_module(f"{rdb}{r}", Dense(activated if old else conv, names))
            return module

        self.conv1, self.conv2, self.conv3 = conv(3, NF), conv(NF, NF), activated(NF, NF)
        self.trunk = nn.ModuleList(block() for _ in range(blocks))
        self.conv4, self.ups = conv(NF, 3), []
        for step in range(1, steps + 1):
            layer = conv(NF, NF) if old else activated(NF, NF)
            self.add_module(f"up{step}" if old else f"upsampling{step}", layer)
            self.ups.append(layer)

    def forward(self, x):
        first = y = self.conv1(x)
        for block in self.trunk:
            z = y
            for dense in block.children():
                z = dense(z)
            y = y + 0.2 * z
        y = first + self.conv2(y)
        for up in self.ups:
            y = up(interpolate(y, scale_factor=2, mode="nearest"))
            y = y if isinstance(up, nn.Sequential) else leaky_relu(y, 0.2)
        return self.conv4(self.conv3(y))


class Persson(nn.Module):
    """Aladdin Persson's ESRGAN: each block has a convolution called cnn or conv."""

    def __init__(self, steps: int, blocks: int = 2):
        super().__init__()

        class Cnn(nn.Module):
            def __init__(self, columns, rows, act):
                super().__init__()
                self.cnn, self.act = conv(columns, rows), act

            def forward(self, x):
                return leaky_relu(self.cnn(x), 0.2) if self.act else self.cnn(x)

        class Blocks(nn.Module):
            def __init__(self):
                super().__init__()
                rows = [*[GC] * 4, NF]
                self.blocks = nn.ModuleList(Cnn(NF + i * GC, rows[i], i < 4) for i in range(5))

            def forward(self, x):
                features, y = x, x
                for block in self.blocks:
                    y = block(features)
                    features = torch.cat([features, y], 1)
                return 0.2 * y + x

        class Rrdb(nn.Module):
            def __init__(self):
                super().__init__()
                self.rrdb = nn.Sequential(*(Blocks() for _ in range(3)))

            def forward(self, x):
                return 0.2 * self.rrdb(x) + x

        class Up(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = conv(NF, NF)

            def forward(self, x):
                return leaky_relu(self.conv(interpolate(x, scale_factor=2, mode="nearest")), 0.2)

        self.initial, self.conv = conv(3, NF), conv(NF, NF)
        self.residuals = nn.Sequential(*(Rrdb() for _ in range(blocks)))
        self.upsamples = nn.Sequential(*(Up() for _ in range(steps)))
        self.final = nn.Sequential(conv(NF, NF), nn.LeakyReLU(0.2), conv(NF, 3))

    def forward(self, x):
        first = self.initial(x)
        return self.final(self.upsamples(self.conv(self.residuals(first)) + first))


MAKERS = {
    "esrgan-pytorch": lambda steps: Lornatang(False, steps),
    "esrgan-pytorch of 2020": lambda steps: Lornatang(True, steps),
    "persson": Persson,
}
TAR = {"epoch": 3, "best_psnr": 30.5, "optimizer": {"state": {}}}


def random_network(maker: str, steps: int = 2) -> nn.Module:
    torch.manual_seed(0)
    network = MAKERS[maker](steps).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return network


def assert_same_output(network: nn.Module, path, rng) -> None:
    module, variables = load_generator(path)
    lr = rng.random((1, 7, 8, 3), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(lr).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    assert expected.std() > 0.1
    found = np.asarray(jax.jit(module.apply)(variables, lr))
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("maker", MAKERS)
def test_output_matches_another_implementation(tmp_path, rng, maker, steps):
    network = random_network(maker, steps)
    state = dict(sorted(network.state_dict().items(), reverse=True))  # order must not matter
    torch.save({**TAR, "state_dict": state}, tmp_path / "g-best.pth.tar")
    assert_same_output(network, tmp_path / "g-best.pth.tar", rng)
    naming = rrdb_names.find_naming({name: t.numpy() for name, t in state.items()})
    assert naming in DIALECTS
    assert maker.startswith(naming)


@pytest.mark.parametrize("prefix", ["model.net.", "module.", "gen.module.model.", "a.b.c.d.e."])
@pytest.mark.parametrize("maker", ["persson", "esrgan-pytorch"])
def test_prefixes_of_any_depth_are_removed_and_other_networks_ignored(tmp_path, rng, maker, prefix):
    network = random_network(maker)
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    other = {"disc.net.0.weight": torch.ones(4, 3, 3, 3), "vgg.features.0.bias": torch.ones(2)}
    torch.save({"state_dict": state | other, "pytorch-lightning_version": "2"}, tmp_path / "l.ckpt")
    assert_same_output(network, tmp_path / "l.ckpt", rng)


@pytest.mark.parametrize("naming", ["basicsr", "bsrgan", "old"])
@pytest.mark.parametrize("prefix", ["model.net.", "module.generator.", "lit.netG.module."])
def test_prefixes_are_removed_in_every_naming(random_generator, rng, naming, prefix):
    fields, params, _ = random_generator(rng, plus=True)
    tensors = {prefix + k: t for k, t in rrdb_names.to_torch(fields, params, naming).items()}
    found, back = rrdb_names.from_torch(tensors | {"loss.vgg.0.weight": np.zeros((2, 3, 3, 3))})
    assert found == fields
    jax.tree.map(np.testing.assert_array_equal, back, params)


def checkpoint_of(trainer: str, tensors: dict[str, np.ndarray]) -> dict[str, object]:
    """Returns a checkpoint with the names and the wrappers that a trainer uses."""
    state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
    if trainer == "mmagic":  # RealESRGAN: a hook averages a copy of the generator
        zeros = {f"generator.{name}": torch.zeros_like(t) for name, t in state.items()}
        averaged = {f"generator_ema.{name}": t for name, t in state.items()}
        others = {
            "discriminator.conv_0.weight": torch.ones(4, 3, 3, 3),
            "perceptual_loss.vgg.vgg_layers.0.weight": torch.ones(4, 3, 3, 3),
            "step_counter": torch.tensor(3),
        }
        meta = {"experiment_name": "x", "iter": 3}
        return {"meta": meta, "state_dict": zeros | averaged | others, "message_hub": {"a": 1}}
    if trainer == "mmagic's hook":  # mmengine's averaged model has a counter of steps
        averaged = {f"module.generator.{name}": t for name, t in state.items()}
        return {"ema_state_dict": averaged | {"steps": torch.tensor(3)}, "meta": {"iter": 3}}
    if trainer == "torch.compile":
        return {"params": {f"_orig_mod.{name}": t for name, t in state.items()}}
    return {"params_ema": state} if trainer == "averaged" else {"params": state}


@pytest.mark.parametrize(
    ("trainer", "naming"),
    [
        *(("mmagic", "basicsr"), ("mmagic's hook", "basicsr")),
        *(("neosr", "basicsr"), ("averaged", "basicsr"), ("torch.compile", "basicsr")),
        *(("traiNNer-redux", "old"), ("averaged", "old")),
    ],
)
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_checkpoints_of_other_trainers_are_read(
    tmp_path, random_generator, rng, trainer, naming, unshuffle
):
    scale = 4 // unshuffle
    fields, params, _ = random_generator(rng, scale=scale, unshuffle=unshuffle)
    tensors = rrdb_names.to_torch(fields, params, naming)
    torch.save(checkpoint_of(trainer, tensors), tmp_path / "net_g_latest.pth")
    module, variables = load_generator(tmp_path / "net_g_latest.pth")
    assert (module.scale, module.unshuffle) == (scale, unshuffle)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], params)


@pytest.mark.parametrize("prefix", ["", "generator."])
def test_the_refusal_of_mmagics_srresnet_names_it(tmp_path, prefix):
    names = ("conv_first", "trunk_net.0.conv1", "trunk_net.0.conv2", "upsample1.upsample_conv")
    tensors = {f"{prefix}{name}.weight": np.zeros((4, 4, 3, 3), np.float32) for name in names}
    write_tensors(tmp_path / "g.npz", tensors)
    with pytest.raises(InputError, match=r"holds SRResNet \(MSRResNet of MMagic\)"):
        load_generator(tmp_path / "g.npz")


def test_averaged_weights_are_preferred_and_several_networks_are_refused(random_generator, rng):
    _, params, tensors = random_generator(rng)
    old = {f"lit.model.{name}": np.zeros_like(t) for name, t in tensors.items()}
    averaged = {f"lit.ema.model.{name}": t for name, t in tensors.items()}
    back = rrdb_names.from_torch(old | averaged)[1]
    jax.tree.map(np.testing.assert_array_equal, back, params)
    second = {f"lit.second.{name}": t for name, t in tensors.items()}
    with pytest.raises(InputError, match=r"several networks: lit\.model, lit\.second; choose one"):
        rrdb_names.from_torch(old | second)


def test_an_extra_layer_or_kernel_of_another_size_is_refused(tmp_path):
    for maker, extra in (("persson", "final.4"), ("esrgan-pytorch", "conv5")):
        state = random_network(maker).state_dict()
        tensors = {name: t.numpy() for name, t in state.items()}
        more = tensors | {f"{extra}.weight": np.zeros((3, 3, 3, 3), np.float32)}
        with pytest.raises(InputError, match=rf"left over: {extra}\.weight"):
            rrdb_names.from_torch(more)
        last = next(name for name in tensors if tensors[name].shape == (3, NF, 3, 3))
        with pytest.raises(InputError, match=r"conv_last\.weight"):  # some have 1x1 here
            rrdb_names.from_torch(tensors | {last: tensors[last][..., 1:2, 1:2]})


def test_the_refusal_of_pytorch_gans_generator_names_it(tmp_path):
    """It is no RRDBNet: its LeakyReLUs have a slope of 0.01, and it takes normalised colours."""
    names = [f"res_blocks.0.dense_blocks.{k}.b{j}.0" for k in range(3) for j in range(1, 6)]
    tensors = {f"{name}.weight": np.zeros((4, 4, 3, 3), np.float32) for name in ("conv1", *names)}
    for prefix in ("", "generator.", "a.b."):
        write_tensors(tmp_path / "g.npz", {prefix + name: t for name, t in tensors.items()})
        with pytest.raises(InputError, match="holds PyTorch-GAN's generator"):
            load_generator(tmp_path / "g.npz")


def test_unknown_names_are_refused(random_generator, rng):
    tensors = random_generator(rng)[2]
    renamed = {name.replace("rdb", "dense_"): t for name, t in tensors.items()}
    with pytest.raises(InputError, match="no RRDB network: none of body"):
        rrdb_names.from_torch(renamed)
    assert without_prefix(renamed) == renamed


def test_fields_and_suffixes_of_a_torch_file(tmp_path):
    torch.save(random_network("persson", 2).state_dict(), tmp_path / "a.pt.tar")
    module, _ = load_generator(tmp_path / "a.pt.tar")
    check_weights(tmp_path / "a.pt.tar")  # as the page checks an upload
    (tmp_path / "a.pt.tar").rename(tmp_path / "pytorch_model.bin")
    assert load_generator(tmp_path / "pytorch_model.bin")[0] == module
    check_weights(tmp_path / "pytorch_model.bin")
    (tmp_path / "ncnn.bin").write_bytes(bytes(64))
    with pytest.raises(InputError, match=r"ncnn\.bin: cannot be read as a torch file"):
        check_weights(tmp_path / "ncnn.bin")
    assert module == RRDBNet(num_features=NF, num_growth=GC, num_blocks=2)
    with pytest.raises(InputError, match=r"\.tar is not a weight file"):
        write_tensors(tmp_path / "b.pth.tar", {})
