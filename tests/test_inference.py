"""The prepared network: what the trained one gives, in pieces of any size."""

import itertools

import pytest
import torch
from torch import nn

from miase.config import ModelConfig
from miase.models import MODELS, build_model, layers
from miase.models.attention import attend
from miase.models.grouped import GroupedBottleneck
from miase.models.inference import FusedNetwork
from miase.models.products import by_onednn, rounds
from miase.models.recurrence import logistic_weights, recurrent_states
from miase.streaming import ModelStream

SMALL = {
    "sample_rate": 4000,
    "n_blocks": 2,
    "window_frames": 32,
    "level_seconds": 0.5,
    "compression": 0.5,
    "mask_exponent": 0.8,
}


def trained(**config):
    """A network whose norms are not those of fresh layers."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(**SMALL | config)).eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.2, 0.2)
    return model


def in_pieces(x, sizes):
    start = 0
    for size in itertools.cycle(sizes):
        yield x[start : start + size], start + size >= len(x)
        start += size
        if start >= len(x):
            return


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sizes", [(10_000,), (1,), (7, 33)])
@pytest.mark.parametrize("n_frames", [1, 2, 15, 16, 33, 64, 101])
def test_masks_in_pieces_are_those_of_the_whole(name, sizes, n_frames):
    model = trained(name=name, n_fft=128, hop_length=32)
    outputs = []
    model.mask_out.register_forward_hook(lambda module, given, output: outputs.append(output))
    spectrum = torch.randn(1, 65, n_frames, 2)
    model.mask(spectrum)
    features = model.features(spectrum)[0].transpose(0, 1)
    stream = FusedNetwork(model).stream()
    pieces = [stream.feed(piece, last=last) for piece, last in in_pieces(features, sizes)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), outputs[0][0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_frames", [2, 64, 101])
def test_masks_do_not_depend_on_how_many_frames_a_layer_takes_at_once(monkeypatch, name, dtype, n_frames):
    network = FusedNetwork(trained(name=name, n_fft=128, hop_length=32), dtype)
    features = torch.randn(n_frames, 65, 2)
    whole = network.stream().feed(features, last=True)
    errors = []
    monkeypatch.setattr(layers, "_AT_ONCE", 1)
    for at_once in (1, 3):
        monkeypatch.setattr(layers, "_FEWEST_AT_ONCE", at_once)
        stream = network.stream()
        pieces = torch.cat([stream.feed(features[:50]), stream.feed(features[50:], last=True)], dim=1)
        errors.append(((pieces - whole).norm() / whole.norm()).item())
    assert max(errors) < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_fft", [128, 126])
@pytest.mark.parametrize("n_samples", [1, 2, 1023, 5001])
@pytest.mark.parametrize("piece", [16, 50])
def test_samples_in_pieces_are_those_of_the_whole(name, n_fft, n_samples, piece):
    model = trained(name=name, n_fft=n_fft, hop_length=n_fft // 4)
    noisy = torch.randn(n_samples)
    stream = ModelStream(model, FusedNetwork(model), piece, with_cut=True)
    pieces = [
        torch.from_numpy(stream.feed(samples.numpy(), last=last))
        for samples, last in in_pieces(noisy, (333, 5))
    ]
    estimate, given, cut = torch.cat(pieces, dim=1)
    torch.testing.assert_close(estimate, model(noisy[None])[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(given, noisy, rtol=0, atol=0)
    assert cut.min() >= 0
    assert cut.max() <= 1


@pytest.mark.parametrize(("n_fft", "n_frames"), [(128, 101), (3072, 33)])
@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_changes_masks_by_its_rounding_alone(name, n_fft, n_frames):
    model = trained(name=name, n_fft=n_fft, hop_length=n_fft // 4)
    features = torch.randn(n_frames, n_fft // 2 + 1, 2)
    exact = FusedNetwork(model).stream().feed(features, last=True)
    rounded = FusedNetwork(model, torch.bfloat16).stream().feed(features, last=True)
    assert rounded.dtype == torch.float32
    error_db = 10 * torch.log10((rounded - exact).square().sum() / exact.square().sum())
    assert -60 < error_db < -30  # eight bits, which a dozen layers have added to


@pytest.mark.parametrize("setting", [{"n_fft": 3072, "hop_length": 768}, {"n_fft": 1022, "hop_length": 256}])
def test_published_settings_give_the_same(setting):
    model = trained(sample_rate=16000, window_frames=128, **setting)
    noisy = torch.randn(50_000)
    estimate = ModelStream(model, FusedNetwork(model), 32).feed(noisy.numpy(), last=True)[0]
    torch.testing.assert_close(torch.from_numpy(estimate), model(noisy[None])[0], rtol=0, atol=1e-4)


def side_by_side(bottleneck, x, *, rounded=False):
    """(batch, 2 * channel, freq, frame) -> the same, as `DCUNet` has it."""
    pairs = x.permute(0, 3, 2, 1).unflatten(-1, (-1, 2))
    parts = GroupedBottleneck(bottleneck, rounded=rounded)(pairs.movedim(-1, 0))
    return parts.movedim(0, -1).flatten(-2).permute(0, 3, 2, 1)


@pytest.mark.parametrize("name", ["dcunet10_rtstm", "dcunet10_ctstm"])
def test_transformers_side_by_side_give_what_each_gives(name):
    bottleneck = trained(name=name).bottleneck
    x = torch.randn(3, 128, 9, 8)
    torch.testing.assert_close(side_by_side(bottleneck, x), bottleneck(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["dcunet10_rtstm", "dcunet10_ctstm"])
def test_transformers_side_by_side_have_the_gradients_of_each(name):
    bottleneck = trained(name=name, n_blocks=2).bottleneck.double().requires_grad_()
    x = torch.randn(3, 128, 9, 8, dtype=torch.float64)
    weights = torch.randn_like(x)

    def gradients(output, given):
        wanted = (given, *bottleneck.parameters())
        return torch.autograd.grad((output * weights).sum(), wanted)

    given = x.clone().requires_grad_()
    apart = gradients(bottleneck(given), given)
    given = x.clone().requires_grad_()
    together = gradients(side_by_side(bottleneck, given), given)
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)


def test_rounded_factors_change_the_transformers_by_their_rounding_alone():
    bottleneck = trained(name="dcunet10_ctstm").bottleneck.requires_grad_()
    x = torch.randn(3, 128, 49, 8)
    weights = torch.randn_like(x)

    def way_back(*, rounded):
        given = x.clone().requires_grad_()
        output = side_by_side(bottleneck, given, rounded=rounded)
        return output, *torch.autograd.grad((output * weights).sum(), (given, *bottleneck.parameters()))

    for rounded, exact in zip(way_back(rounded=True), way_back(rounded=False), strict=True):
        assert (rounded - exact).norm() / exact.norm() < (0.05 if rounds() else 1e-5)


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="this torch has no such setting")
def test_products_are_exact_unless_they_may_be_rounded():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    a, b = torch.rand(2, 300, 32), torch.rand(2, 32, 96)
    exact = (a.double() @ b.double()).float()
    with by_onednn(rounded=True):
        with by_onednn(rounded=False):
            pass
        rounded = torch.bmm(a, b)  # the inner one has not ended what the outer one began
        assert setting.fp32_precision == "bf16"
    assert setting.fp32_precision == before
    with by_onednn(rounded=False):
        torch.testing.assert_close(torch.bmm(a, b), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0.01)


def test_the_way_back_of_the_recurrence_is_that_of_finite_differences():
    inputs = torch.randn(2, 3, 4, 15, dtype=torch.float64, requires_grad=True)
    from_state = torch.randn(2, 5, 15, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, 1, 15, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(recurrent_states, (inputs, from_state, bias))


def test_the_recurrence_is_torchs_own():
    gru = nn.GRU(5, 5, batch_first=True).double()
    x = torch.randn(4, 7, 5, dtype=torch.float64)  # (row, step, width)
    with torch.no_grad():
        parameters = gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0
        from_input, from_state, state_bias = logistic_weights(*(p.unsqueeze(0) for p in parameters))
        inputs = torch.cat((x, torch.ones(4, 7, 1)), dim=-1).transpose(0, 1) @ from_input[0]
        states = recurrent_states(inputs[None], from_state, state_bias)
        torch.testing.assert_close(2 * states[0].transpose(0, 1) - 1, gru(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n_steps", [1, 3, 12, 13, 49, 128, 129])
@pytest.mark.parametrize("size", [1, 8])  # scores of some units, and such as float32 has no powers for
def test_attention_is_torchs_own(n_steps, size):
    qkv = size * torch.randn(5, n_steps, 3, 4, 8)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).double()
    expected = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).float()
    tolerance = {} if size == 1 else {"rtol": 1e-4 * size, "atol": 1e-4 * size}
    torch.testing.assert_close(attend(qkv), expected, **tolerance)
    torch.testing.assert_close(attend(qkv.requires_grad_()), expected, **tolerance)


def test_the_way_back_of_attention_is_that_of_finite_differences():
    qkv = torch.randn(2, 5, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attend, (qkv,))


@pytest.mark.parametrize("name", ["dcunet10_ctstm", "dcunet20"])
@pytest.mark.parametrize(("lookahead", "with_cut"), [(None, False), (None, True), (8, True)])
def test_nothing_waits_longer_than_the_latency(name, lookahead, with_cut):
    model = trained(name=name, n_fft=64, hop_length=16)
    stream = ModelStream(model, FusedNetwork(model), 16, with_cut=with_cut, lookahead=lookahead)
    step, given, longest = 16, 0, 0
    for taken in range(step, 200 * 16, step):
        given += stream.feed(torch.randn(step).numpy()).shape[1]
        longest = max(longest, taken - given)
    assert stream.latency - 2 * step <= longest <= stream.latency


def test_with_a_lookahead_the_future_is_not_heard():
    """Each sample is what the model gives when the signal ends the lookahead after its piece."""
    model = trained(n_fft=64, hop_length=16)
    noisy, frames, lookahead = torch.randn(5000), 16, 8
    stream = ModelStream(model, FusedNetwork(model), frames, lookahead=lookahead)
    given = 0
    for start in range(0, 4000, 100):
        samples = torch.from_numpy(stream.feed(noisy[start : start + 100].numpy()))[0]
        if len(samples):
            n_frames = (start + 100 - 32) // 16 + 1  # complete so far
            n_frames -= n_frames % frames
            cut = model.stft.analyse(noisy[None, : start + 100])[:, :, :n_frames]
            estimate = model.stft.synthesise(masked(model, cut), n_frames * 16)[0]
            # The last frame of each piece reaches into the next; what comes before is from this call alone.
            inner = slice(given + 64, given + len(samples))
            torch.testing.assert_close(samples[64:], estimate[inner], rtol=0, atol=1e-4)
            given += len(samples)
    assert given > 3000


def masked(model, spectrum):
    mask = torch.view_as_complex(model.mask(spectrum).contiguous())
    return torch.view_as_real(mask * torch.view_as_complex(spectrum.contiguous()))
