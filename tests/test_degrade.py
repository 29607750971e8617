"""The random degradation: what is drawn, by statistics, and what it does to images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from esrgan_jax.degradation import kernels
from esrgan_jax.degradation.degrade import apply, degrade
from esrgan_jax.degradation.draws import draw
from esrgan_jax.degradation.resize import MODES
from esrgan_jax.degradation.settings import KERNELS, RULES, RealESRGAN, check
from esrgan_jax.errors import InputError
from esrgan_jax.imresize import resize

PUBLISHED = RealESRGAN()
COUNT, SIDE = 500, 48
several = jax.jit(jax.vmap(partial(degrade, scale=4)))
applied = jax.jit(partial(apply, scale=4))


@pytest.fixture(scope="module")
def drawn():
    keys = jax.random.split(jax.random.key(1), COUNT)
    return jax.device_get(jax.jit(jax.vmap(partial(draw, settings=PUBLISHED)))(keys))


@pytest.fixture(scope="module")
def eight():
    """Returns keys, images and their LR."""
    images = np.random.default_rng(2).random((8, SIDE, SIDE, 3), np.float32)
    keys = jax.random.split(jax.random.key(3), 8)
    return keys, images, np.asarray(several(keys, images))


def assert_share(chosen: np.ndarray, share: float) -> None:
    """Fails if so many of the draws have a probability below one in 10,000."""
    assert stats.binomtest(int(chosen.sum()), chosen.size, share).pvalue > 1e-4


def assert_uniform(values: np.ndarray, low: float, high: float) -> None:
    assert stats.kstest(values, "uniform", (low, high - low)).pvalue > 1e-4


@pytest.mark.parametrize("number", ["", "2"])
def test_each_order_draws_with_the_published_probabilities(drawn, number):
    order = drawn.second if number else drawn.first
    published = PUBLISHED._asdict()

    def of(name: str):
        return published[name + number]

    assert_share(order.blurred, published["second_blur_prob"] if number else 1.0)
    for way, share in zip(
        (order.scale > 1, order.scale < 1, order.scale == 1), of("resize_prob"), strict=True
    ):
        assert_share(way, share)
    least, most = of("resize_range")
    assert_uniform(order.scale[order.scale > 1], 1, most)
    assert_uniform(order.scale[order.scale < 1], least, 1)
    for mode in range(len(MODES)):
        assert_share(order.mode == mode, 1 / 3)
    assert_share(order.gaussian, of("gaussian_noise_prob"))
    assert_uniform(order.noise[order.gaussian] * 255, *of("noise_range"))
    assert_uniform(order.noise[~order.gaussian], *of("poisson_scale_range"))
    assert_share(order.gray, of("gray_noise_prob"))
    assert_uniform(order.quality, *of("jpeg_range"))


@pytest.mark.parametrize("number", ["", "2"])
def test_kernels_are_drawn_with_the_published_probabilities(drawn, number):
    blur = (drawn.second if number else drawn.first).blur
    published = PUBLISHED._asdict()
    sinc = blur.family == kernels.FAMILIES.index("sinc")
    assert_share(sinc, published["sinc_prob" + number])
    shares = dict(zip(KERNELS, published["kernel_prob" + number], strict=True))
    plateau = blur.family[~sinc] == kernels.FAMILIES.index("plateau")
    round_ = (blur.sigma_x == blur.sigma_y)[~sinc]
    other = (blur.beta != 1)[~sinc]
    assert_share(plateau & round_, shares["plateau_iso"])
    assert_share(plateau & ~round_, shares["plateau_aniso"])
    assert_share(~plateau & ~other & round_, shares["iso"])
    assert_share(~plateau & ~other & ~round_, shares["aniso"])
    assert_share(~plateau & other & round_, shares["generalized_iso"])
    assert_share(~plateau & other & ~round_, shares["generalized_aniso"])
    assert set(blur.size) == set(range(7, 22, 2))
    assert_share(blur.size < 13, 3 / 8)
    assert_uniform(blur.sigma_x, *published["blur_sigma" + number])
    assert_uniform(blur.sigma_y, *published["blur_sigma" + number])
    assert_uniform(blur.rotation, -np.pi, np.pi)
    assert_uniform(blur.cutoff[blur.size < 13], np.pi / 3, np.pi)
    assert_uniform(blur.cutoff[blur.size >= 13], np.pi / 5, np.pi)
    for family, name in ((~plateau, "betag_range"), (plateau, "betap_range")):
        least, most = published[name + number]
        beta = blur.beta[~sinc][family & other]
        assert_share(beta < 1, 0.5 if least < 1 else 0.0)
        assert_uniform(beta[beta > 1], 1, most)
        assert beta.min() >= least


def test_the_last_filter_and_the_order_of_jpeg_are_drawn(drawn):
    assert_share(drawn.filtered, 0.8)
    assert_share(drawn.jpeg_last, 0.5)
    assert_uniform(drawn.sinc.cutoff, np.pi / 3, np.pi)
    assert set(drawn.sinc.size) == set(range(7, 22, 2))
    for mode in range(len(MODES)):
        assert_share(drawn.mode == mode, 1 / 3)


def test_lr_has_8_bits_and_differs_by_key(eight):
    keys, images, lr = eight
    assert lr.shape == (8, SIDE // 4, SIDE // 4, 3)
    assert lr.dtype == np.float32
    levels = np.round(lr * 255)
    np.testing.assert_allclose(lr, levels / 255, atol=1e-7)
    assert 0 <= levels.min() < levels.max() <= 255
    other = np.asarray(several(keys[::-1], images))
    assert (np.abs(other - lr).max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_lr_depends_on_the_key_and_not_on_the_batch(eight, count):
    keys, images, lr = eight
    np.testing.assert_array_equal(several(keys[:count], images[:count]), lr[:count])


def without_noise(drawn, index: int):
    """Returns what was drawn for an image, but without noise and with the best JPEG."""
    one = jax.tree.map(lambda x: x[index], drawn)
    quiet = {"noise": np.float32(0), "quality": np.float32(100)}
    return one._replace(first=one.first._replace(**quiet), second=one.second._replace(**quiet))


@pytest.mark.parametrize("level", [0, 100, 255])
def test_an_even_image_stays_even_without_noise(drawn, level):
    image = np.full((SIDE, SIDE, 3), level / 255, np.float32)
    for index in range(12):
        lr = applied(jax.random.key(0), image, without_noise(drawn, index))
        # Between the two JPEG, the second blur leaves levels that are not whole.
        np.testing.assert_allclose(lr, level / 255, atol=1.01 / 255)


def test_lr_is_where_bicubic_lr_is(drawn):
    """On a ramp of 4 levels a pixel of LR, a shift by a quarter of a pixel is one level."""
    ramp = (np.arange(SIDE) + 20.0) / 255
    down = np.broadcast_to(ramp[:, None, None], (SIDE, SIDE, 3)).astype(np.float32)
    for image in (down, down.swapaxes(0, 1)):
        expected = np.asarray(resize(image, 1 / 4))
        for index in range(24):
            lr = np.asarray(applied(jax.random.key(0), image, without_noise(drawn, index)))
            inner = (lr - expected)[3:-3, 3:-3] * 255
            assert abs(inner.mean()) < 1


def test_a_share_of_the_images_is_only_reduced(monkeypatch, eight):
    degraded = jnp.full((SIDE // 4, SIDE // 4, 3), 2.0)
    monkeypatch.setattr("esrgan_jax.degradation.degrade.apply", lambda *_: degraded)
    settings, hr = PUBLISHED._replace(clean_prob=0.2), eight[1][0]
    clean = np.asarray(jnp.round(jnp.clip(resize(hr, 1 / 4), 0, 1) * 255) / 255)
    keys = jax.random.split(jax.random.key(4), COUNT)
    one = partial(degrade, hr=hr, scale=4, settings=settings)
    lr = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(keys))
    is_clean = (lr != 2).all((1, 2, 3))
    assert_share(is_clean, 0.2)
    np.testing.assert_array_equal(lr[is_clean], np.broadcast_to(clean, lr[is_clean].shape))
    np.testing.assert_array_equal(lr[~is_clean], 2)


def test_sides_must_be_multiples_of_the_scale():
    with pytest.raises(ValueError, match=r"\(9, 8, 3\): its sides must be multiples of 4"):
        jax.eval_shape(partial(degrade, scale=4), jax.random.key(0), jnp.zeros((9, 8, 3)))


def test_the_published_settings_follow_the_rules():
    assert RULES.keys() == PUBLISHED._asdict().keys()
    for name, value in PUBLISHED._asdict().items():
        assert RULES[name].fits(value), name
    check(PUBLISHED)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blur_kernel_size", 8),
        ("kernel_list", ("iso", "square")),
        ("kernel_prob2", (0, 0)),
        ("sinc_prob", 1.5),
        ("sinc_prob", True),
        ("blur_sigma", (0, 3)),
        ("blur_sigma", (3, 1)),
        ("betag_range", (1.5, 4)),
        ("resize_prob", (0.5, 0.5)),
        ("resize_range2", (0.3, 0.9)),
        ("jpeg_range", (30, 101)),
        ("noise_range", 5),
        ("noise_range", (1, 2, 3)),
    ],
)
def test_wrong_settings_are_refused(name, value):
    assert not RULES[name].fits(value)


def test_a_share_is_needed_for_each_kernel():
    fewer = PUBLISHED._replace(kernel_list2=("iso", "aniso"))
    with pytest.raises(InputError, match=r"degradation.kernel_prob2 has 6 numbers.* 2 kernels"):
        check(fewer)
