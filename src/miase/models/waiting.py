"""Frames that wait for a layer of a network that takes them as they come."""

import copy

import torch
from torch import Tensor

from miase.models.complex import SLOPE
from miase.models.folding import Parts, real_and_imag


class Waiting:
    """Frames that wait for a layer, with those of a skip connection beside them.

    Args:
        n_lead: frames of zeros before the first.
        n_freq: size of the frequency axis.
        like: a tensor on the device that they live on, of their type.
        n_channels: of the layer before, real and imaginary ones.
        n_skipped: channels of the skip connection.
        n_empty: frequencies of zeros after the last.
        groups: 3 where the layer takes x_r + x_i, x_r and x_i apart; otherwise 1.
    """

    def __init__(
        self,
        n_lead: int,
        n_freq: int,
        like: Tensor,
        n_channels: int,
        n_skipped: int = 0,
        n_empty: int = 0,
        groups: int = 1,
    ) -> None:
        width = (n_channels + n_skipped) // (2 if groups == 3 else 1)  # of each group
        self._room = _Room(like.new_zeros(groups, n_lead, n_freq + n_empty, width), n_freq)
        self._first_skipped = n_channels // (2 if groups == 3 else 1)
        self._skipped: tuple[Parts, ...] = ()
        self.n_taken = 0

    def __len__(self) -> int:
        return len(self._room)

    def frames(self, stop: int) -> Tensor:
        """The first ``stop`` of them, (group, frame, freq, channel), until more are taken."""
        return self._room.data[:, :stop]

    def append(self, frames: Parts, *, activate: bool = True) -> None:
        """Take frames of the layer before, through the LeakyReLU when it is still to come."""
        n_frames = len(frames[0])
        groups = self._room.grow(n_frames)
        first, start = self._first_skipped, 0
        _write(frames, groups[..., :first], activate=activate)
        while self._skipped and start < n_frames:
            parts = self._skipped[0]
            given = tuple(part[: n_frames - start] for part in parts)
            rest = tuple(part[n_frames - start :] for part in parts)
            stop = start + len(given[0])
            _write(given, groups[:, start:stop, :, first:])
            self._skipped = ((rest,) if len(rest[0]) else ()) + self._skipped[1:]
            start = stop
        if len(groups) == 3:
            torch.add(groups[1], groups[2], out=groups[0])
        self.n_taken += n_frames

    def skip(self, frames: Parts) -> None:
        """Take frames of the skip connection, which come before those that they stand beside."""
        if len(frames[0]):
            self._skipped = (*self._skipped, frames)

    def end(self, n_frames: int) -> None:
        """Add frames of zeros to the end."""
        self._room.grow(n_frames).zero_()

    def drop(self, n_frames: int) -> None:
        """Forget the first frames."""
        self._room.drop(n_frames)

    def fork(self) -> "Waiting":
        """The same frames, for another course of the signal."""
        other = copy.copy(self)
        other._room = self._room.fork()
        return other


def _write(parts: Parts, groups: Tensor, *, activate: bool = True) -> None:
    """To (group, frame, freq, channel); of three groups to the last two."""
    if len(groups) == 1:
        targets = torch.split(groups[0], [part.shape[-1] for part in parts], dim=-1)
    else:
        parts, targets = real_and_imag(parts), (groups[1], groups[2])
    for part, target in zip(parts, targets, strict=True):
        if activate:
            torch.ops.aten.leaky_relu.out(part.to(target.dtype), SLOPE, out=target)
        else:
            target.copy_(part)


class _Room:
    """Frames one after another, in memory that is kept: new memory for each piece takes time.

    Args:
        zeros: the first frames, (group, frame, freq, channel).
        n_freq: frequencies that are given; the others stay zeros.
    """

    def __init__(self, zeros: Tensor, n_freq: int) -> None:
        self._memory = zeros.clone()
        self._n_freq = n_freq
        self._first, self._end = 0, zeros.shape[1]

    def __len__(self) -> int:
        return self._end - self._first

    @property
    def data(self) -> Tensor:
        return self._memory[:, self._first : self._end]

    def grow(self, n_frames: int) -> Tensor:
        """Room for as many frames after the last, whatever it holds, (group, frame, freq, channel)."""
        n_groups, size = self._memory.shape[:2]
        if self._end + n_frames > size:
            held = self.data.clone()  # which may lie where it is to go
            n_held = len(self)
            if n_held + n_frames > size:
                self._memory = held.new_empty(n_groups, n_held + n_frames, *held.shape[2:])
                self._memory[:, :, self._n_freq :] = 0
            self._memory[:, :n_held] = held
            self._first, self._end = 0, n_held
        self._end += n_frames
        return self._memory[:, self._end - n_frames : self._end, : self._n_freq]

    def drop(self, n_frames: int) -> None:
        self._first += n_frames

    def fork(self) -> "_Room":
        other = copy.copy(self)
        other._memory = self.data.clone()
        other._first, other._end = 0, len(self)
        return other
