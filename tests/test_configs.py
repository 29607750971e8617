"""All configs load and build; the recipes have the numbers of the paper and published code."""

import importlib
import itertools
from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from configs import demo, lite_x4, realesrgan_x2, realesrgan_x4, x4
from configs.ablations import before_activation, lite, no_bn, ragan, rrdb, srgan_baseline
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.sharding import create_mesh
from esrgan_jax.training.settings import check_run
from esrgan_jax.training.stages import gan_stage, psnr_stage

ROOT = Path(__file__).parents[1]
NAMES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "configs").rglob("*.py")
)
ABLATIONS = [srgan_baseline, no_bn, before_activation, ragan, rrdb]


def flat(config: Any) -> dict[str, Any]:
    """Returns {dotted key: value} of all settings, with keys as on the command line."""
    return {
        f"{key}.{inner}" if inner else key: leaf
        for key, value in config.items()
        for inner, leaf in (flat(value) if isinstance(value, ConfigDict) else {"": value}).items()
    }


def size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def create_states(config: Any) -> tuple[Any, Any]:
    """Returns the shapes of the initial states of both stages."""
    vgg, mesh = VGGFeatures(tuple(config.gan.layer_weights)), create_mesh()
    stages = psnr_stage(config, mesh), gan_stage(config, vgg, mesh)
    psnr, gan = (jax.eval_shape(stage.create, jax.random.key(0)) for stage in stages)
    return psnr, gan


@pytest.mark.parametrize("name", NAMES)
def test_every_config_loads_and_passes_the_checks(name: str) -> None:
    config = importlib.import_module(name).get_config()
    assert config.stage == ("psnr" if config.recipe == "demo" else "both")
    config.data.train = "photographs"
    check_run(config, devices=8)
    for stage in ("psnr", "gan"):
        # A schedule that ended before training does would keep its last rate for the rest.
        settings = config[stage]
        if settings.schedule == "cosine":
            assert sum(settings.periods) == settings.steps
        else:
            assert max(settings.milestones, default=0) < settings.steps


def test_the_paper_recipe_has_the_published_settings() -> None:
    """See §4.1 of the paper and §4 of its supplement."""
    config = x4.get_config()
    generator = {"name": "rrdb", "num_features": 64, "num_growth": 32, "num_blocks": 23}
    generator |= {"in_channels": 3, "out_channels": 3, "unshuffle": 1, "plus": False}
    generator |= {"initializer": "msra_tenth", "remat": False, "dtype": "float32"}
    generator |= {"upsampler": "upconv"}
    assert config.generator.to_dict() == generator
    assert config.scale == 4

    psnr, gan = config.psnr, config.gan
    assert (psnr.steps, psnr.batch_size, psnr.hr_patch) == (1_000_000, 16, 192)
    assert (gan.steps, gan.batch_size, gan.hr_patch) == (400_000, 16, 128)
    assert (psnr.learning_rate, gan.learning_rate, gan.d_learning_rate) == (2e-4, 1e-4, 1e-4)
    assert psnr.milestones == (200_000, 400_000, 600_000, 800_000)
    assert gan.milestones == (50_000, 100_000, 200_000, 300_000)
    assert (gan.pixel_weight, gan.perceptual_weight, gan.gan_weight) == (1e-2, 1.0, 5e-3)
    assert gan.layer_weights.to_dict() == {"conv5_4": 1.0}
    assert gan.relativistic
    assert not gan.stop_means
    assert gan.perceptual_norm == "l1"
    for stage in (psnr, gan):
        assert stage.pixel_norm == "l1"
        assert (stage.b1, stage.b2) == (0.9, 0.999)
        assert (stage.schedule, stage.factor) == ("multistep", 0.5)
        assert (stage.ema_decay, stage.clip_norm, stage.accumulation) == (0.0, 0.0, 1)


@pytest.mark.parametrize(
    ("recipe", "differences"),
    [
        ("official2019", {"psnr.hr_patch": 128, "gan.steps": 500_000}),
        (
            "basicsr",
            {
                "generator.initializer": "basicsr",
                "discriminator.initializer": "torch",
                "discriminator.use_bias": False,
                "psnr.hr_patch": 128,
                "psnr.schedule": "cosine",
                "psnr.b2": 0.99,
                "psnr.ema_decay": 0.999,
                "gan.b2": 0.99,
                "gan.ema_decay": 0.999,
                "gan.stop_means": True,
            },
        ),
    ],
)
def test_other_recipes_differ_from_the_paper_only_in_these_settings(
    recipe: str, differences: dict[str, Any]
) -> None:
    paper, other = flat(x4.get_config()), flat(x4.get_config(recipe))
    assert paper.keys() == other.keys()
    assert {key: other[key] for key in paper if paper[key] != other[key]} == {
        "recipe": recipe,
        **differences,
    }


def test_the_basicsr_recipe_has_four_cosine_periods() -> None:
    settings = x4.get_config("basicsr").psnr
    rates = psnr_stage(x4.get_config("basicsr"), create_mesh()).schedules["lr_g"]
    assert settings.periods == (250_000,) * 4
    tops, bottoms = (0, 250_001, 750_001), (250_000, 750_000)
    assert [float(rates(step)) for step in tops] == pytest.approx([2e-4] * 3)
    assert [float(rates(step)) for step in bottoms] == pytest.approx([1e-7] * 2)
    middle = (2e-4 + 1e-7) / 2
    assert [float(rates(step)) for step in (125_000, 875_000)] == pytest.approx([middle] * 2)
    assert float(rates(1_000_000)) == pytest.approx(1e-7)


def test_the_paper_recipe_halves_learning_rates_at_milestones() -> None:
    config = x4.get_config()
    rate = psnr_stage(config, create_mesh()).schedules["lr_g"]
    steps = (0, 199_999, 200_000, 400_000, 600_000, 800_000, 999_999)
    assert [float(rate(step)) for step in steps] == pytest.approx(
        [2e-4, 2e-4, 1e-4, 5e-5, 2.5e-5, 1.25e-5, 1.25e-5]
    )
    for rate in gan_stage(config, None, create_mesh()).schedules.values():
        assert [float(rate(step)) for step in (49_999, 50_000, 399_999)] == pytest.approx(
            [1e-4, 5e-5, 6.25e-6]
        )


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="'ours': choose one of paper, official2019, basicsr"):
        x4.get_config("ours")


def test_each_ablation_changes_one_thing() -> None:
    configs = [flat(module.get_config()) for module in ABLATIONS]
    changes = [
        {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - {"recipe"}
        for old, new in itertools.pairwise(configs)
    ]
    assert changes[:3] == [
        {"generator.normalize"},
        {"gan.layer_weights.relu5_4", "gan.layer_weights.conv5_4"},
        {"gan.relativistic"},
    ]
    assert {key.split(".")[0] for key in changes[3]} == {"generator"}
    assert [config["recipe"] for config in configs] == [
        module.__name__.split(".")[-1] for module in ABLATIONS
    ]


def test_each_small_ablation_changes_one_thing() -> None:
    rows = {row: flat(lite.get_config(row)) for row in lite.ROWS}

    def changes(old: str, new: str) -> set[str]:
        keys = rows[old].keys() | rows[new].keys()
        return {key for key in keys if rows[old].get(key) != rows[new].get(key)} - {"recipe"}

    assert [changes(*pair) for pair in itertools.pairwise(lite.ROWS[:4])] == [
        {"generator.normalize"},
        {"gan.layer_weights.relu5_4", "gan.layer_weights.conv5_4"},
        {"gan.relativistic"},
    ]
    assert {key.split(".")[0] for key in changes("ragan", "rrdb")} == {"generator"}
    assert changes("rrdb", "no_l1") == {"gan.pixel_weight"}
    assert changes("rrdb", "no_psnr") == {"psnr.steps", "psnr.periods"}
    with pytest.raises(ValueError, match="'l1': choose one of srgan_baseline, no_bn, "):
        lite.get_config("l1")


@pytest.mark.parametrize("row", ["srgan_baseline", "rrdb"])
def test_small_ablations_have_networks_of_one_cost(row: str) -> None:
    """Multiplications of the blocks per LR pixel, which are parameters of convolutions."""
    generator = lite.get_config(row).generator
    f = generator.num_features
    if generator.name == "srresnet":
        count = generator.num_blocks * 2 * 9 * f * f
    else:
        g = generator.num_growth
        count = generator.num_blocks * 3 * 9 * (g * (4 * f + 6 * g) + f * (f + 4 * g))
    assert count == 829_440


def test_the_last_ablation_equals_the_paper() -> None:
    last = rrdb.get_config()
    last.recipe = "paper"
    assert last == x4.get_config()


@pytest.mark.parametrize("module", [*ABLATIONS, demo], ids=lambda module: module.__name__)
def test_both_stages_of_every_config_build(module: Any) -> None:
    psnr, gan = create_states(module.get_config())
    assert jax.tree.structure(psnr.generator) == jax.tree.structure(gan.generator)
    assert bool(psnr.generator.batch_stats) == (module is srgan_baseline)
    assert psnr.discriminator is None
    assert gan.discriminator is not None


@pytest.mark.parametrize(
    ("recipe", "discriminator"),
    [("paper", 14_502_281), ("official2019", 14_502_281), ("basicsr", 14_499_401)],
)
def test_networks_have_the_published_parameter_counts(recipe: str, discriminator: int) -> None:
    psnr, gan = create_states(x4.get_config(recipe))
    assert size(psnr.generator.params) == size(gan.generator.params) == 16_697_987
    assert size(gan.discriminator.params) == discriminator
    assert (gan.ema_params is not None) == (recipe == "basicsr")


@pytest.mark.parametrize("module", [realesrgan_x4, realesrgan_x2])
def test_real_esrgan_has_the_published_settings(module: Any) -> None:
    """See the four files options/train_realesr*_x*plus.yml of the authors."""
    config = module.get_config()
    for stage, steps, rate in ((config.psnr, 1_000_000, 2e-4), (config.gan, 400_000, 1e-4)):
        assert (stage.steps, stage.batch_size, stage.hr_patch) == (steps, 4 * 12, 256)
        assert (stage.b1, stage.b2, stage.ema_decay) == (0.9, 0.99, 0.999)
        assert (stage.pixel_norm, stage.clip_norm) == ("l1", 0.0)
        built = psnr_stage(config, create_mesh())
        if stage is config.gan:
            built = gan_stage(config, None, create_mesh())
            assert built.schedules.keys() == {"lr_g", "lr_d"}
        rates = [
            float(schedule(step))
            for schedule in built.schedules.values()
            for step in (0, steps - 1)
        ]
        assert rates == pytest.approx([rate] * len(rates))
    gan = config.gan
    assert (gan.pixel_weight, gan.perceptual_weight, gan.gan_weight) == (1.0, 1.0, 0.1)
    assert (gan.perceptual_norm, gan.relativistic) == ("l1", False)
    assert (config.psnr.unsharp, gan.unsharp) == (("pixel",), ("pixel", "perceptual"))
    assert gan.layer_weights.to_dict() == {
        **{"conv1_2": 0.1, "conv2_2": 0.1},
        **{"conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0},
    }
    assert config.degradation.name == "realesrgan"
    assert config.degradation.margin == (400 - 256) / 2
    shapes = create_states(config)[1]
    first = 3 * config.generator.unshuffle**2
    assert shapes.generator.params["conv_first"]["kernel"].shape == (3, 3, first, 64)
    assert size(shapes.generator.params) == 16_697_987 + 9 * 64 * (first - 3)
    assert size(shapes.discriminator.params) == 4_376_897
    assert (config.scale, config.generator.unshuffle) == {4: (4, 1), 2: (2, 2)}[config.scale]


def test_the_lite_network_has_the_documented_parameter_count() -> None:
    psnr, gan = create_states(lite_x4.get_config("vgg19.safetensors"))
    assert size(psnr.generator.params) == size(gan.generator.params) == 869_155
    assert size(psnr.ema_params) == 869_155
