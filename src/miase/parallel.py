"""Devices, precision and processes of a training run: Fabric, and norms that see the whole batch.

``torchrun`` starts the processes and says by its environment how many there are; a run starts the same way
with one of them.
"""

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from miase.config import TrainingConfig
from miase.errors import ConfigError

SETTLE_SECONDS = 1.0  # far more than a thread needs to end what it is at
QUICKER = 0.9  # of the time in float32: with instructions for it 0.6 to 0.8, without them 2 and more
# M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX of malloc.h: never give back, ask for 64 MiB more, all on the heap.
MALLOPT = {-1: 2**31 - 1, -2: 1 << 26, -4: 0}
TURNS = 4  # the first of which prepares what the others use


def make_fabric(settings: TrainingConfig) -> Fabric:
    """Fabric for the device and precision asked for, in as many processes as ``torchrun`` started.

    Raises:
        ConfigError: the device is not to be had, or not with this precision.
    """
    kind, _, number = settings.device.partition(":")
    precision: Any = settings.precision
    if precision == "auto":
        fast = kind in ("auto", "cuda") and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        precision = "bf16-mixed" if fast else "32-true"
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    n_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    try:
        devices: Any = [int(number)] if number else n_local
        fabric = Fabric(
            accelerator=kind,
            devices=devices,
            num_nodes=n_processes // n_local,
            strategy="ddp" if n_processes > 1 else "auto",
            precision=precision,
        )
    except (ValueError, RuntimeError, ImportError, MisconfigurationException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {settings.device!r} with precision {precision!r} is not to be had here ({reason}); "
            f"use auto for both"
        ) from error
    fabric.launch()
    return fabric


def keep_memory() -> None:
    """Have this process keep the memory that its tensors free, where glibc hands memory out.

    It would give blocks of many megabytes back, and have the system fill new ones with zeros at each step: a
    fifth of the time of a step in float32 at 48 kHz, a twentieth in bfloat16.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for option, value in MALLOPT.items():
            libc.mallopt(option, value)


def quicker_precision(network: nn.Module, sample_rate: int) -> str:
    """bf16-mixed where this CPU learns in it in clearly less time than in 32-true, which it is otherwise.

    Measured, by turns, forth and back through the network itself: with instructions for bfloat16 (AMX or
    AVX-512 BF16) it takes half of the time or two thirds, without them several times as long. The network
    stays as it is.

    Args:
        network: (batch, time) -> (batch, time), on the CPU.
        sample_rate: in Hz; a second of sound goes through.
    """
    noisy = 0.1 * torch.randn(2, sample_rate, generator=torch.Generator().manual_seed(0))
    parameters = list(network.parameters())
    was_training = network.training
    network.eval()  # the statistics of the norms stay
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for rounded in [False, True] * TURNS:
        began = time.process_time()
        with torch.enable_grad():
            with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
                estimate = network(noisy)
            torch.autograd.grad(estimate.float().square().sum(), parameters, allow_unused=True)
        seconds[rounded].append(time.process_time() - began)
    network.train(was_training)
    return "bf16-mixed" if min(seconds[True]) < QUICKER * min(seconds[False]) else "32-true"


def agreed(fabric: Fabric, is_so: bool) -> bool:
    """What the first process says, for all of them: clocks and signals differ from one to another."""
    return is_so if fabric.world_size == 1 else bool(fabric.broadcast(is_so))


def leave(fabric: Fabric) -> None:
    """Wait for the other processes, and end what connects them: a process that just exits may abort."""
    if fabric.world_size > 1:
        fabric.barrier()
        # gloo's thread gives back the objects of its last work under Python's lock. If the group ends before,
        # by whoever frees the model, that thread is waited for under the same lock, and both wait for good.
        time.sleep(SETTLE_SECONDS)
        dist.destroy_process_group()


class Autocast(nn.Module):
    """A network that Fabric does not train, in the precision of those that it does.

    ``network`` computes what is called; (batch, time) -> (batch, time), in float32.
    """

    def __init__(self, fabric: Fabric, network: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fabric = fabric
        self.network = network

    def forward(self, noisy: Tensor) -> Tensor:
        """As the network."""
        with self.fabric.autocast():
            return self.network(noisy).float()


def share_norms(model: nn.Module) -> None:
    """Let the batch norms of ``model`` take their statistics from the batches of all processes.

    In place. PyTorch's own SyncBatchNorm does so on GPUs alone.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SharedBatchNorm2d


class _SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, which must be of one size; (batch, channel, ...)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in the base class
        if not self.training:
            return super().forward(input)
        x = input.float()
        n = x.numel() // x.shape[1] * dist.get_world_size()
        mean = _sum_over_processes(x.sum((0, 2, 3))) / n
        centred = x - mean[:, None, None]
        variance = _sum_over_processes(centred.square().sum((0, 2, 3))) / n
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / max(1, n - 1)), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class _Sum(torch.autograd.Function):
    """Sum over the processes; so is its gradient, for each process's loss depends on the sum."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total
