"""The PyTorch port's side of `beside_original.py`: runs in a process of its own, which knows nothing of JAX.

The networks are imported from a clone of nipponjo/deepfillv2-pytorch. The training step is that of its ``train.py``,
restated: one forward pass of the generator, a step of the discriminator on real and filled pictures in one batch, a
step of the generator on the moved discriminator, Adam 1e-4 (0.5, 0.999), hinge loss, L1 of both stages, one mask for
the whole batch. In its favour: masks lie ready on the device, and losses are not read back after every step.
"""

import contextlib
import sys
from multiprocessing.connection import Connection
from types import ModuleType

import numpy as np
import torch
from beside_original_cases import Case, Prepared, serve
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


def main(connection: Connection, port: str, device: str) -> None:
    sys.path.insert(0, port)
    from model import networks, networks_tf

    torch.backends.cudnn.benchmark = True
    serve(
        connection,
        lambda case, variant: prepare(networks, case, variant, device),
        {
            "check": lambda path, width, size: check(networks_tf, path, width, size),
            "device": lambda: torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "threads": torch.get_num_threads,
        },
    )


def prepare(networks: ModuleType, case: Case, variant: str, device: str) -> Prepared:
    """A case as "eager" (as released), "channels_last", or "compiled" (channels_last and torch.compile)."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision != "fp32"
    torch.manual_seed(0)
    make = {"train": _train, "inpaint": _inpaint}.get(case.kind, _attention)
    before = torch.cuda.memory_allocated() if device == "cuda" else 0
    once = make(networks, case, variant, device)

    def run(times: int) -> None:
        for _ in range(times):
            once()
        if device == "cuda":
            torch.cuda.synchronize()

    def memory() -> float:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        run(1)
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    gflop = 0.0
    if variant == "eager":
        with FlopCounterMode(display=False) as counter:
            once()
        gflop = counter.get_total_flops() / 1e9
    return Prepared(run, memory if device == "cuda" else None, gflop)


def _autocast(case: Case, device: str):
    return torch.autocast(device, torch.bfloat16) if case.precision == "bf16" else contextlib.nullcontext()


def _tuned(module: torch.nn.Module, variant: str) -> torch.nn.Module:
    if variant != "eager":
        module.to(memory_format=torch.channels_last)
        for part in module.modules():
            if type(part).__name__ == "ContextualAttention":
                # It reshapes what its convolutions give, which only the plain layout allows.
                part.register_forward_pre_hook(lambda _, inputs: tuple(x.contiguous() for x in inputs))
    return torch.compile(module, dynamic=False) if variant == "compiled" else module


def _pictures(case: Case, variant: str, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures in [-1, 1], one mask with a hole of a quarter in the middle)."""
    real = torch.rand(case.batch, 3, case.size, case.size, device=device) * 2 - 1
    if variant != "eager":
        real = real.contiguous(memory_format=torch.channels_last)
    return real, _hole(case.size, device)


def _hole(size: int, device: str) -> torch.Tensor:
    mask = torch.zeros(1, 1, size, size, device=device)
    mask[..., size // 4 : size // 4 * 3, size // 4 : size // 4 * 3] = 1
    return mask


def _generator(networks: ModuleType, case: Case, variant: str, device: str) -> torch.nn.Module:
    return _tuned(networks.Generator(cnum_in=5, cnum_out=3, cnum=case.width, return_flow=False).to(device), variant)


def _inputs(real: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(the known part, what the generator sees: known, ones, mask)."""
    known = real * (1 - mask)
    ones = torch.ones_like(known[:, :1])
    return known, torch.cat([known, ones, ones * mask], dim=1)


def _train(networks: ModuleType, case: Case, variant: str, device: str):
    generator = _generator(networks, case, variant, device).train()
    discriminator = networks.Discriminator(cnum_in=4, cnum=case.width * 4 // 3).to(device).train()
    discriminator = _tuned(discriminator, variant)
    options = {"fused": True} if variant != "eager" and device == "cuda" else {}
    move_generator, move_discriminator = (
        torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.5, 0.999), **options)
        for network in (generator, discriminator)
    )
    real, mask = _pictures(case, variant, device)

    def once() -> None:
        known, seen = _inputs(real, mask)
        masks = mask.expand(case.batch, -1, -1, -1)
        with _autocast(case, device):
            coarse, refined = generator(seen, mask)
        filled = refined * mask + known
        both = torch.cat([torch.cat([real, masks], dim=1), torch.cat([filled.detach(), masks], dim=1)])
        with _autocast(case, device):
            scores = discriminator(both)
        of_real, of_filled = scores.float().split(case.batch)
        loss = (functional.relu(1 - of_real).mean() + functional.relu(1 + of_filled).mean()) / 2
        move_discriminator.zero_grad()
        loss.backward()
        move_discriminator.step()

        with _autocast(case, device):
            scores = discriminator(torch.cat([filled, masks], dim=1))
        loss = (real - coarse).abs().mean() + (real - refined).abs().mean() - scores.float().mean()
        move_generator.zero_grad()
        loss.backward()
        move_generator.step()

    return once


def _inpaint(networks: ModuleType, case: Case, variant: str, device: str):
    generator = _generator(networks, case, variant, device).eval()
    real, mask = _pictures(case, variant, device)

    @torch.inference_mode()
    def once() -> torch.Tensor:
        known, seen = _inputs(real, mask)
        with _autocast(case, device):
            _, refined = generator(seen, mask)
        return refined * mask + known

    return once


def _attention(networks: ModuleType, case: Case, variant: str, device: str):
    attention = networks.ContextualAttention(
        ksize=3, stride=1, rate=2, fuse_k=3, softmax_scale=10, fuse=True, n_down=2, return_flow=False
    )
    attention = _tuned(attention.to(device), variant)
    dtype = torch.bfloat16 if case.precision == "bf16" else torch.float32
    side, backward = case.size // 4, case.kind == "attention_grad"
    shape = (case.batch, 2 * case.width, side, side)
    features = torch.randn(shape, device=device, dtype=dtype, requires_grad=backward)
    cotangent, mask = torch.randn(shape, device=device, dtype=dtype), _hole(case.size, device)

    def once() -> None:
        with _autocast(case, device), torch.set_grad_enabled(backward):
            output, _ = attention(features, features, mask)
        if backward:
            features.grad = None
            output.backward(cotangent.to(output.dtype))

    return once


def check(networks: ModuleType, path: str, width: int, size: int) -> None:
    """Writes weights, a picture, a mask and what the generator makes of them.

    The networks with TensorFlow's padding are the ones that published weights fit, and ours; those that the port
    trains pad strided convolutions on both sides instead of after, and are the same layers otherwise.
    """
    torch.manual_seed(0)
    generator = networks.Generator(cnum_in=5, cnum=width).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            if parameter.ndim == 4:
                parameter *= 2  # else a signal fades through forty gated layers, and all outputs are nearly zero
            else:
                parameter.normal_(0, 0.1)
    real, mask = torch.rand(1, 3, size, size) * 2 - 1, _hole(size, "cpu")
    _, seen = _inputs(real, mask)
    saved = {f"state/G.{name}": x.numpy() for name, x in generator.state_dict().items()}
    for fuse in (False, True):
        generator.contextual_attention.fuse = fuse
        with torch.no_grad():
            stages = generator(seen, mask)
        for number, stage in enumerate(stages, start=1):
            saved[f"stage{number}/{'fused' if fuse else 'unfused'}"] = stage.numpy().transpose(0, 2, 3, 1)
    np.savez(path, image=real.numpy().transpose(0, 2, 3, 1), mask=mask.numpy().transpose(0, 2, 3, 1), **saved)
