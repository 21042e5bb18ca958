"""Rooms: impulse responses from files or simulated, and speech heard through them.

A response is shape (time,), of any length and level. The direct path is its first arrival.
"""

import math
from collections.abc import Sequence

import numpy as np

from miase.errors import ConfigError
from miase.sounds import Samples

EARLY_SECONDS = 0.05  # after the direct path: reflections that help the ear rather than blur the speech
DIRECT = 0.5  # of the largest sample: a reflection may be stronger than the direct path, but seldom by 6 dB
DIMENSIONS = ((3.0, 10.0), (3.0, 8.0), (2.4, 3.5))  # of simulated rooms, in m
FROM_WALLS = 0.5  # least distance of talker and microphone to walls, in m


def simulate_response(sample_rate: int, rt60: float, rng: np.random.Generator) -> Samples:
    """The response of a box-shaped room of random size, with talker and microphone at random places.

    Image source method (Allen and Berkley 1979), walls by Sabine's formula.

    Args:
        sample_rate: in Hz.
        rt60: time in s in which the sound falls by 60 dB; about what the response has.
        rng: where sizes and places are drawn from.

    Returns:
        Shape (time,).

    Raises:
        ConfigError: pyroomacoustics is not installed.
    """
    try:
        import pyroomacoustics as pra
    except ImportError as error:
        raise ConfigError(
            'simulated rooms need pyroomacoustics: pip install "miase[rooms]"; '
            "or name a folder of responses with --rooms"
        ) from error
    size = [float(rng.uniform(*bounds)) for bounds in DIMENSIONS]
    talker, microphone = ([float(rng.uniform(FROM_WALLS, side - FROM_WALLS)) for side in size] for _ in "ab")
    absorption, order = pra.inverse_sabine(max(rt60, _shortest_rt60(size)), size)
    room = pra.ShoeBox(size, fs=sample_rate, materials=pra.Material(absorption), max_order=order)
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    return np.asarray(room.rir[0][0], dtype=np.float32)


def _shortest_rt60(size: Sequence[float]) -> float:
    """What Sabine's formula gives with walls that absorb all but a hundredth; no shorter time is possible."""
    length, width, height = size
    surface = 2 * (length * width + length * height + width * height)
    return 24 * math.log(10) / 343 * length * width * height / (0.99 * surface)


def direct_path(response: Samples) -> int:
    """The sample at which the direct path arrives: the first peak within 6 dB of the largest sample."""
    level = np.abs(response)
    first = int(np.argmax(level >= DIRECT * level.max()))
    while first + 1 < level.size and level[first + 1] > level[first]:
        first += 1
    return first


def early_part(response: Samples, sample_rate: int) -> Samples:
    """The response up to `EARLY_SECONDS` behind the direct path."""
    return response[: direct_path(response) + round(EARLY_SECONDS * sample_rate) + 1]


def reverberate(speech: Samples, response: Samples) -> Samples:
    """Speech through a room, shape (time,), as long as before.

    The direct path has the speech's own level and comes without delay, so that clean and noisy stay in
    phase; what rings on behind the end is cut.
    """
    direct = direct_path(response)
    length = 1 << (speech.size + response.size - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(speech, length) * np.fft.rfft(response, length), length)
    return np.asarray(heard[direct : direct + speech.size] / response[direct], dtype=np.float32)
