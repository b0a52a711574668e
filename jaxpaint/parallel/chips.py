"""What accelerators can do at best, by the vendors' figures: the measure of a share of the peak, and of what fits.

Every figure is that of one JAX device. On most accelerators that is a chip; a TPU7x chip is two devices.

Peaks are dense (NVIDIA's tables often show twice as much, for matrices half of which are zeros) and are those of
matrix products with JAX's default precision: ``float32`` is TF32 on the tensor cores of an NVIDIA GPU, and one bfloat16
pass on a TPU. With ``jax.default_matmul_precision("highest")`` float32 is several times slower than written here.
"""

from typing import NamedTuple

from jaxpaint.types import InputError

GIB = 2**30

GOOGLE = "Google Cloud TPU documentation, page {}; usable memory: out-of-memory message of libtpu 0.0.42"
NVIDIA = "NVIDIA {} Tensor Core GPU datasheet"


class Chip(NamedTuple):
    """One accelerator, as one JAX device.

    name:      the short name: the key of `CHIPS`
    flops:     peak FLOP/s of dense matrix products, by the name of the type
    memory:    bytes of HBM (GDDR6 on an L4), nominal
    usable:    bytes that a program may take: what libtpu's compiler calls "available HBM", which is less than nominal
               and is what "fits" means here. On a GPU the driver and other programs take what they take: the nominal
               size, an upper limit
    bandwidth: of that memory, bytes/s
    devices:   JAX devices of one chip
    source:    the document of the vendor
    """

    name: str
    flops: dict[str, float]
    memory: int
    usable: int
    bandwidth: float
    devices: int
    source: str

    def peak(self, dtype: str) -> float:
        """Peak FLOP/s with operands of a type, ``str(jnp.dtype)``.

        Raises:
          InputError: there is no figure for the type.
        """
        if dtype not in self.flops:
            raise InputError(f"no peak is known of {self.name} for {dtype}: there is one for {', '.join(self.flops)}")
        return self.flops[dtype]


def _tpu(name: str, teraflops: float, memory: float, usable: float, bandwidth: float, page: str, devices: int = 1):
    """A TPU from figures of a whole chip (TFLOP/s, GiB, GB/s) and the usable memory of one device (GiB)."""
    peak = teraflops * 1e12 / devices
    return Chip(
        name=name,
        flops={"bfloat16": peak, "float32": peak},
        memory=int(memory * GIB) // devices,
        usable=int(usable * GIB),
        bandwidth=bandwidth * 1e9 / devices,
        devices=devices,
        source=GOOGLE.format(page),
    )


def _gpu(name: str, bfloat16: float, tf32: float, memory: int, bandwidth: float, sheet: str):
    """A GPU from dense TFLOP/s, GB (10^9, as the sheets count) and GB/s."""
    nominal = memory * 10**9
    flops = {"bfloat16": bfloat16 * 1e12, "float32": tf32 * 1e12}
    return Chip(name, flops, nominal, nominal, bandwidth * 1e9, 1, NVIDIA.format(sheet))


CHIPS: dict[str, Chip] = {
    chip.name: chip
    for chip in (
        _tpu("v4", 275, 32, 30.75, 1200, "TPU v4"),
        _tpu("v5e", 197, 16, 15.75, 819, "TPU v5e"),
        _tpu("v5p", 459, 95, 95.74, 2765, "TPU v5p"),  # libtpu offers a little more than the page says
        _tpu("v6e", 918, 32, 31.25, 1638, "TPU7x (its comparison)"),
        _tpu("tpu7x", 2307, 192, 94.75, 7380, "TPU7x", devices=2),
        _gpu("A100-SXM-40GB", 312, 156, 40, 1555, "A100 40GB"),
        _gpu("A100-SXM-80GB", 312, 156, 80, 2039, "A100 80GB"),
        _gpu("A100-PCIe-40GB", 312, 156, 40, 1555, "A100 40GB"),
        _gpu("A100-PCIe-80GB", 312, 156, 80, 1935, "A100 80GB"),
        _gpu("H100-SXM", 989.5, 494.5, 80, 3350, "H100"),
        _gpu("H100-PCIe", 756.5, 378, 80, 2000, "H100 PCIe"),
        _gpu("H200", 989.5, 494.5, 141, 4800, "H200"),
        _gpu("L4", 121, 60, 24, 300, "L4"),
    )
}
"""By short name. Not every accelerator: those of which the vendor has published dense figures."""

KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
    "NVIDIA A100-SXM4-40GB": "A100-SXM-40GB",
    "NVIDIA A100-SXM4-80GB": "A100-SXM-80GB",
    "NVIDIA A100-PCIE-40GB": "A100-PCIe-40GB",
    "NVIDIA A100 80GB PCIe": "A100-PCIe-80GB",
    "NVIDIA H100 80GB HBM3": "H100-SXM",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H200": "H200",
    "NVIDIA L4": "L4",
}
"""``jax.Device.device_kind`` -> short name. Whole names: part of a GPU ("... MIG 1g.5gb") is another device."""


def chip_of(device_kind: str) -> Chip | None:
    """What a JAX device can do; None for a CPU and for an accelerator that is not in the table.

    Args:
      device_kind: ``jax.devices()[0].device_kind``
    """
    return CHIPS[KINDS[device_kind]] if device_kind in KINDS else None
