"""Sound above a model's band: the same weights hear it at a higher rate, below it all stays as it was.

At a higher rate the weights tell speech from noise in frequencies that they never learned from
(`miase.models.rebuilt.widened`): hiss and whistles above speech go. They let more pass of what cracks and
ticks through the whole band, which the model knows below, so what it cuts there is cut above, too.
"""

import numpy as np

from miase.resampling import StreamResampler, resampling_delay
from miase.sounds import Samples
from miase.streamer import Aligned, ChannelStream


class FullBandStream:
    """One channel through a model f and through the same weights at a higher rate, g.

    y = U f(D x) + (1 - U c) (g(x) - U D g(x)), D to the rate of f, U back, c the share that f would cut of
    what lies above its band.

    Args:
        narrow: the stream of f, with three outputs; see `miase.streamer.Streamer`.
        wide: the stream of g, with one output or with three.
        narrow_rate: of f, in Hz.
        wide_rate: of g and of the samples, in Hz.
    """

    def __init__(self, narrow: ChannelStream, wide: ChannelStream, narrow_rate: int, wide_rate: int) -> None:
        self._narrow, self._wide = narrow, wide
        self._rates = narrow_rate, wide_rate
        self._noisy_down, self._wide_down = (StreamResampler(wide_rate, narrow_rate, 1) for _ in range(2))
        self._up = StreamResampler(narrow_rate, wide_rate, 3)
        self._at_narrow_rate, self._at_wide_rate = Aligned(), Aligned()

    @property
    def latency(self) -> int:
        """Samples that are taken, at most, before the first of them is given."""
        narrow_rate, wide_rate = self._rates
        down, up = resampling_delay(wide_rate, narrow_rate), resampling_delay(narrow_rate, wide_rate)
        models = max(self._wide.latency / wide_rate, self._narrow.latency / narrow_rate)
        return round((models + down + up) * wide_rate)

    def feed(self, samples: Samples, *, last: bool = False) -> Samples:
        """As `miase.streaming.ModelStream.feed`."""
        outputs = self._wide.feed(samples, last=last)
        narrow = self._narrow.feed(self._noisy_down.process(samples[None], last)[0], last=last)
        below = self._wide_down.process(outputs[:1], last)
        narrow, below = self._at_narrow_rate.feed(narrow[::2], below)
        from_narrow = self._up.process(np.concatenate((narrow, below)), last)
        if last:  # resampling there and back may give a sample less
            from_narrow = np.pad(from_narrow, ((0, 0), (0, 1)))
        outputs, (estimate, cut, below) = self._at_wide_rate.feed(outputs, from_narrow)
        outputs[0] = estimate + (1 - np.clip(cut, 0, 1)) * (outputs[0] - below)
        return outputs
