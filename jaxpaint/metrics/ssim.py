"""Structural similarity (Wang et al. 2004) and its multi-scale form (Wang et al. 2003), in the field's variants.

SSIM at one window position, with window averages ``E`` (eq. 13 of the 2004 paper, peak value L = 255):

    mu_x = E[x]    var_x = (E[x^2] - mu_x^2) f    cov = (E[xy] - mu_x mu_y) f        (1)
    cs   = (2 cov + C2) / (var_x + var_y + C2)                                       (2)
    ssim = (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1) * cs                          (3)
    C1 = (0.01 L)^2,  C2 = (0.03 L)^2

The variants differ in the window (Gaussian 11, sigma 1.5; uniform 7, 11, 51 or 65), in the factor f (1: the
population covariance; N/(N-1) for a window of N pixels: scikit-image's default), in the border (valid
positions, or zeros around the picture) and in colour (mean over channels, or grey). On the same pictures they
are up to 0.06 apart: more than published methods are.

Regions: the whole is the mean over all window positions; the hole is the mean over those positions whose
**centre pixel** is in the hole. With valid windows, hole pixels closer to the border than half a window
have no position and do not count; a hole that lies there entirely gives NaN.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.metrics.pixelwise import by_region, grey, mean_over

C1, C2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
MS_SSIM_SMALLEST = 161  # the 11-tap window must fit after four halvings: more than 10 * 2**4


def gaussian_average(image: jax.Array, size: int = 11, sigma: float = 1.5) -> jax.Array:
    """Gaussian window averages at the valid positions: h w c to (h - size + 1) (w - size + 1) c."""
    taps = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    taps = (taps / taps.sum()).tolist()
    height, width, _ = image.shape
    image = sum(tap * image[i : i + height - size + 1] for i, tap in enumerate(taps))
    image = jax.lax.optimization_barrier(image)  # fused into one loop, the passes would be size^2 products a pixel
    return sum(tap * image[:, i : i + width - size + 1] for i, tap in enumerate(taps))


def uniform_average(image: jax.Array, size: int) -> jax.Array:
    """Plain window averages at the valid positions, by running sums: the cost does not depend on the size.

    Exact in float64 for integer pixels; in float32 the running sums would lose the small variances.
    """
    sums = jnp.cumsum(jnp.cumsum(image, axis=0), axis=1)
    sums = jnp.pad(sums, ((1, 0), (1, 0), (0, 0)))
    rows = sums[size:] - sums[:-size]
    return (rows[:, size:] - rows[:, :-size]) / size**2


def similarity(x: jax.Array, y: jax.Array, average, factor: float = 1.0) -> tuple[jax.Array, jax.Array]:
    """Maps of eq. 3 and of eq. 2 over the window positions of ``average``; x, y h w c in 0..255."""
    # One pass over the five moments; without the barriers the compiler would repeat it for every use of a moment.
    moments = jax.lax.optimization_barrier(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    averages = jax.lax.optimization_barrier(average(moments))
    mean_x, mean_y, square_x, square_y, product = jnp.split(averages, 5, axis=-1)
    variances = (square_x - mean_x**2 + square_y - mean_y**2) * factor
    covariance = (product - mean_x * mean_y) * factor
    structure = (2 * covariance + C2) / (variances + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance * structure, structure


def at_centres(pixels: jax.Array, inside: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """``pixels`` (h w) at the centres of the valid windows, and which of these windows lie inside."""
    before, after = size // 2, size - 1 - size // 2
    height, width = pixels.shape
    # Padding is below and to the right, so that a window lies inside when its last pixel does.
    return pixels[before : height - after, before : width - after], inside[size - 1 :, size - 1 :]


def ssim_gaussian(prediction, target, hole, inside, *, sample: bool = False):
    """Gaussian 11x11 window, valid positions: Wang's own with ``sample=False``.

    ``sample=True`` takes f = 121/120, what scikit-image does with ``gaussian_weights=True`` alone.
    """
    values, _ = similarity(prediction, target, gaussian_average, 121 / 120 if sample else 1.0)
    return by_region(values, *at_centres(hole, inside, 11))


def ssim_gaussian_zero_pad(prediction, target, hole, inside):
    """LaMa's: Gaussian 11x11 with zeros around the picture, the mean over every pixel, border included."""
    border = ((5, 5), (5, 5), (0, 0))
    values, _ = similarity(jnp.pad(prediction, border), jnp.pad(target, border), gaussian_average)
    return by_region(values, hole, inside)


def ssim_uniform(prediction, target, hole, inside, *, size: int):
    """Uniform size x size window, sample covariance, valid positions, mean over channels (scikit-image)."""
    average = functools.partial(uniform_average, size=size)
    values, _ = similarity(prediction, target, average, size**2 / (size**2 - 1))
    return by_region(values, *at_centres(hole, inside, size))


def ssim_grey(prediction, target, hole, inside, *, size: int):
    """`ssim_uniform` on grey pictures (EdgeConnect's script, window 51)."""
    return ssim_uniform(grey(prediction), grey(target), hole, inside, size=size)


def ms_ssim(prediction, target, hole, inside):
    """Five scales, Gaussian 11x11 at each; only for the whole picture: what a hole is at scale 5 has no convention.

    Per channel: the product of mean ``cs`` at scales 1 to 4 and mean ``ssim`` at scale 5, each clipped below
    at 0 and raised to its weight; then the mean over channels. Scales by 2x2 means, a zero before an odd
    side counted in the mean (what pytorch-msssim's padding by 1 comes to: its last window is dropped).
    """
    x, y = prediction, target
    factors = []
    for scale, weight in enumerate(SCALE_WEIGHTS):
        whole, structure = similarity(x, y, gaussian_average)
        values = whole if scale == len(SCALE_WEIGHTS) - 1 else structure
        _, windows = at_centres(inside, inside, 11)
        means = jnp.stack([mean_over(values[..., c : c + 1], windows) for c in range(values.shape[2])])
        factors.append(jnp.maximum(means, 0.0) ** weight)
        x, y, inside = halve(x, inside), halve(y, inside), halve_inside(inside)
    return {"whole": jnp.prod(jnp.stack(factors), axis=0).mean()}


def halve(image: jax.Array, inside: jax.Array) -> jax.Array:
    """2x2 means of the pixels inside: h w c to ceil(h/2) ceil(w/2) c, with zeros before an odd side of the picture."""
    odd_height, odd_width = inside[:, 0].sum() % 2, inside[0].sum() % 2
    image = jnp.where(inside[..., None], image, 0.0)
    image = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    height, width = (side + side % 2 for side in inside.shape)
    image = jax.lax.dynamic_slice(image, (1 - odd_height, 1 - odd_width, 0), (height, width, image.shape[2]))
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4


def halve_inside(inside: jax.Array) -> jax.Array:
    """`inside` of the picture that `halve` makes."""
    rows, columns = (inside[:, 0].sum() + 1) // 2, (inside[0].sum() + 1) // 2
    height, width = (inside.shape[0] + 1) // 2, (inside.shape[1] + 1) // 2
    return (jnp.arange(height)[:, None] < rows) & (jnp.arange(width)[None] < columns)
