"""Networks: known answers, any length, what they must not depend on."""

import copy
import math

import pytest
import torch
from torch import nn

from miase.config import ModelConfig
from miase.errors import ConfigError
from miase.models import MODELS, build_model, convolution
from miase.models.complex import (
    ComplexBlock,
    ComplexConv2d,
    ComplexConvTranspose2d,
    concatenated,
    imag_part,
    interleave,
    real_part,
)
from miase.models.convolution import convolution_back
from miase.models.masking import bounded_mask, complex_multiply, masked
from miase.models.taps import spread
from miase.models.transformer import ComplexBottleneck, TwoStageTransformer, in_windows

SMALL = {"n_fft": 64, "hop_length": 16, "n_blocks": 1, "window_frames": 32, "sample_rate": 4000}


def gradients_of(layer, x, *size):
    """Of the sum of the squares of what it gives, along what it takes and its parameters."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(layer(x, *size).square().sum(), (x, *layer.parameters()))


def as_complex(x):
    return torch.complex(real_part(x), imag_part(x))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (1, 1)])
def test_complex_convolution_equals_torchs_own_on_complex_numbers(stride):
    conv = ComplexConv2d(3, 4, (3, 5), stride)
    x = torch.randn(2, 6, 11, 9)
    weight = torch.complex(conv.weight_real, conv.weight_imag)  # (out, in, freq, frame)
    expected = torch.nn.functional.conv2d(as_complex(x.mT), weight, None, stride, (1, 2)).mT
    torch.testing.assert_close(as_complex(conv(x)), expected)


@pytest.mark.parametrize(
    ("stride", "size"), [((2, 2), (12, 10)), ((2, 2), (11, 9)), ((2, 1), (6, 10)), ((1, 1), (6, 5))]
)
@pytest.mark.parametrize("n_channels", [4, 1])  # as a convolution, and tap by tap
def test_complex_transposed_convolution_equals_torchs_own_on_complex_numbers(n_channels, stride, size):
    conv = ComplexConvTranspose2d(3, n_channels, (3, 3), stride)
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(2, 6, 6, 5)
    weight = torch.complex(conv.weight_real, conv.weight_imag)
    bias = torch.complex(conv.bias[0::2], conv.bias[1::2])
    extra = [size[1 - i] - ((x.shape[3 - i] - 1) * stride[i] + 1) for i in range(2)]
    expected = torch.nn.functional.conv_transpose2d(as_complex(x.mT), weight, bias, stride, 1, extra).mT
    result = conv(x, size)
    assert result.shape[2:] == size
    torch.testing.assert_close(as_complex(result), expected)


@pytest.mark.parametrize("n_frames", [16, 17, 33])  # one piece, a piece and a frame, three pieces
@pytest.mark.parametrize("stride", [(2, 2), (2, 1), (1, 1)])
def test_gradients_by_pieces_are_those_of_the_whole(monkeypatch, stride, n_frames):
    x = torch.randn(2, 32, n_frames, 9)
    down = ComplexConv2d(16, 20, (3, 5), stride)
    up = ComplexConvTranspose2d(20, 16, (3, 5), stride)
    size = x.shape[2:]
    whole = gradients_of(down, x), gradients_of(up, down(x).detach(), size)
    taken = []

    def back(*given):
        taken.append(given[1].shape)
        return convolution_back(*given)

    monkeypatch.setattr(convolution, "LARGE", 0)
    monkeypatch.setattr(convolution, "convolution_back", back)
    pieces = gradients_of(down, x), gradients_of(up, down(x).detach(), size)
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)
    n_pieces = math.ceil(n_frames / stride[1] / convolution.PIECE)
    assert len(taken) == 2 * (1 + len(x) * n_pieces)  # both ways: of the input, and of the weights


@pytest.mark.parametrize(
    ("kernel", "stride", "size"),
    [
        ((3, 3), (2, 2), (9, 14)),
        ((5, 3), (3, 2), (13, 13)),
        ((7, 5), (2, 1), (9, 7)),
        ((3, 3), (1, 2), (5, 14)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_tap_by_tap_is_the_transposed_convolution_and_so_is_its_way_back(kernel, stride, size, dtype):
    x, weight = torch.randn(2, 6, 5, 7, dtype=dtype), torch.randn(6, 2, *kernel, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    bias = torch.randn(2, dtype=dtype)
    padding = (kernel[0] // 2, kernel[1] // 2)
    extra = [size[i] - ((x.shape[2 + i] - 1) * stride[i] + kernel[i] - 2 * padding[i]) for i in range(2)]
    weights = torch.randn(2, 2, *size)

    def ways_back(function, *given):
        given = [tensor.clone().requires_grad_() for tensor in given]
        output = function(*given).float()
        return output, *torch.autograd.grad((output * weights).sum(), given)

    exact = [tensor.double() for tensor in (x, weight, bias)]
    expected = ways_back(lambda *a: nn.functional.conv_transpose2d(*a, stride, padding, extra), *exact)
    given = ways_back(lambda x, *a: spread(x.split((2, 4), 1), *a, stride, padding, size), x, weight, bias)
    for ours, theirs in zip(given, expected, strict=True):
        error = (ours.double() - theirs.double()).norm() / theirs.double().norm()
        assert error < (0.01 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("layer", ["down", "up"])
@pytest.mark.parametrize(("training", "with_gradients"), [(True, True), (False, True), (False, False)])
def test_norms_give_what_they_give_apart_from_the_convolution(layer, training, with_gradients):
    conv = {
        "down": ComplexConv2d(3, 4, (3, 3), (2, 2)),
        "up": ComplexConvTranspose2d(3, 4, (3, 3), (2, 2)),
    }[layer]
    block = ComplexBlock(conv, 4)
    for tensor in (conv.bias, block.norm.bias, block.norm.weight, block.norm.running_mean):
        nn.init.normal_(tensor)
    block.train(training)
    other = copy.deepcopy(block)
    x = torch.randn(2, 6, 6, 5)
    size = ((12, 10),) if layer == "up" else ()
    weights = torch.randn_like(other.conv(x, *size))

    def plainly(x):
        return nn.functional.leaky_relu(other.norm(other.conv(x, *size)), 0.01)

    with torch.set_grad_enabled(with_gradients):
        ours, theirs = block(x, *size), plainly(x)
    torch.testing.assert_close(ours, theirs)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(block.state_dict()[name], value)
    if with_gradients:
        (ours * weights).sum().backward()
        (theirs * weights).sum().backward()
        if training:
            assert not block.conv.bias.grad.any()
        for parameter, reference in zip(block.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(parameter.grad, reference.grad, rtol=1e-4, atol=1e-4)


def test_what_is_concatenated_gets_its_own_gradients():
    x, skipped = (torch.randn(2, n, 5, 7).requires_grad_() for n in (4, 6))
    weights = torch.randn(2, 10, 5, 7)
    given = torch.autograd.grad((concatenated(x, skipped) * weights).sum(), (x, skipped))
    torch.testing.assert_close(given, (weights[:, :4], weights[:, 4:]), rtol=0, atol=0)


@pytest.mark.parametrize("n_freq", [1, 2, 3])
def test_narrow_images_in_bfloat16_hold_only_numbers(n_freq):
    conv = ComplexConv2d(64, 64, (3, 3), (2, 2))
    back = ComplexConvTranspose2d(64, 64, (3, 3), (2, 2))
    last = ComplexConvTranspose2d(64, 1, (3, 3), (2, 2))
    x = torch.randn(2, 128, 9, n_freq).contiguous(memory_format=torch.channels_last).requires_grad_()
    for _ in range(5):
        for size in (1 << 10, 1 << 14, 1 << 18):
            torch.full((size,), torch.nan)  # what is allocated next may hold these
        with torch.autocast("cpu", torch.bfloat16):
            result = back(conv(x), (9, n_freq))
            mask = last(result, (18, 2 * n_freq))
        wanted = (x, conv.weight_real, back.weight_real, last.weight_real)
        for tensor in (result, mask, *torch.autograd.grad(mask.sum() + result.float().sum(), wanted)):
            assert torch.isfinite(tensor).all()


def test_interleaved_parts_come_back():
    real, imag = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    both = interleave(real, imag)
    torch.testing.assert_close(real_part(both), real, rtol=0, atol=0)
    torch.testing.assert_close(imag_part(both), imag, rtol=0, atol=0)


@pytest.mark.parametrize("exponent", [1.0, 0.7])
def test_mask_keeps_the_phase_and_bounds_the_magnitude(exponent):
    x = torch.randn(50, 2) * 3
    mask = torch.view_as_complex(bounded_mask(x, exponent))
    given = torch.view_as_complex(x)
    torch.testing.assert_close(mask.abs(), torch.tanh(given.abs()) ** exponent)
    torch.testing.assert_close(mask.angle(), given.angle())


def test_mask_has_a_finite_gradient_at_zero():
    x = torch.zeros(1, 2, requires_grad=True)
    bounded_mask(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(1, 2))
    bounded_mask(x, 0.7).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("exponent", [1.0, 0.7])
def test_a_masked_spectrum_is_its_product_with_the_mask_and_so_is_its_way_back(exponent):
    output = torch.randn(2, 2, 4, 5)
    output[0, :, 0, 0] = 0
    spectrum, weights = torch.randn(2, 2, 5, 4, 2)

    def way_back(function):
        given = output.clone().requires_grad_()
        estimate = function(given)
        return estimate, torch.autograd.grad((estimate * weights).sum(), given)[0]

    def plainly(output):
        return complex_multiply(bounded_mask(output.permute(0, 3, 2, 1), exponent), spectrum)

    ours, theirs = way_back(lambda given: masked(given, spectrum, exponent)), way_back(plainly)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_masking_is_a_complex_product():
    a, b = torch.randn(7, 2), torch.randn(7, 2)
    expected = torch.view_as_real(torch.view_as_complex(a) * torch.view_as_complex(b))
    torch.testing.assert_close(complex_multiply(a, b), expected)


def test_complex_bottleneck_follows_its_equation():
    bottleneck = ComplexBottleneck(4, n_blocks=1).eval()
    x = torch.randn(1, 8, 3, 5)
    r, i = real_part(x), imag_part(x)
    a, b = bottleneck.transformer_a, bottleneck.transformer_b
    expected = interleave(a(r) - b(i), b(r) + a(i))
    torch.testing.assert_close(bottleneck(x), expected, rtol=1e-4, atol=1e-5)


def test_transformer_mixes_both_freq_and_time():
    transformer = TwoStageTransformer(4, n_blocks=1).eval()
    x = torch.randn(1, 4, 5, 6)
    before = transformer(x)
    x[0, :, 2, 3] += 1.0
    changed = (transformer(x) - before).abs().sum(1)[0] > 1e-6
    assert changed[0, 0]
    assert changed[4, 5]


def test_windows_do_not_hear_each_other():
    bottleneck = TwoStageTransformer(4, n_blocks=1).eval()
    x = torch.randn(1, 4, 3, 20)
    whole = in_windows(bottleneck, x, 8)
    assert whole.shape == x.shape
    torch.testing.assert_close(whole[..., 8:16], bottleneck(x[..., 8:16]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[..., 16:], bottleneck(x[..., 12:20])[..., 4:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n_samples", [1, 2, 100, 1023, 2049, 16001])
def test_any_length_comes_back(name, n_samples):
    model = build_model(ModelConfig(name=name, **SMALL)).eval()
    with torch.inference_mode():
        estimate = model(torch.randn(2, n_samples))
    assert estimate.shape == (2, n_samples)
    assert torch.isfinite(estimate).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("n_fft", "hop_length"), [(512, 256), (1022, 256), (3072, 768)])
def test_published_and_odd_stft_settings_work(name, n_fft, hop_length):
    model = build_model(ModelConfig(name=name, n_fft=n_fft, hop_length=hop_length, n_blocks=1)).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 5000)).shape == (1, 5000)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gain", [0.01, 30.0])
def test_the_estimate_scales_with_the_input(name, gain):
    model = build_model(ModelConfig(name=name, **SMALL)).eval()
    noisy = torch.randn(1, 3000) * 0.1
    with torch.inference_mode():
        torch.testing.assert_close(model(gain * noisy), gain * model(noisy), rtol=1e-3, atol=1e-5 * gain)


def test_silence_stays_silent():
    model = build_model(ModelConfig(**SMALL)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3000)).abs().max() == 0


def test_items_of_a_batch_do_not_hear_each_other_in_evaluation():
    model = build_model(ModelConfig(**SMALL)).eval()
    noisy = torch.randn(3, 2000)
    with torch.inference_mode():
        torch.testing.assert_close(model(noisy)[1:2], model(noisy[1:2]), rtol=1e-4, atol=1e-6)


def test_a_mask_of_one_gives_the_recording_without_delay():
    model = build_model(ModelConfig(**SMALL)).eval()
    nn.init.zeros_(model.mask_out.weight_real)
    nn.init.zeros_(model.mask_out.weight_imag)
    model.mask_out.bias.data = torch.tensor([20.0, 0.0])
    noisy = torch.randn(2, 3001)
    with torch.inference_mode():
        torch.testing.assert_close(model(noisy), noisy, rtol=1e-4, atol=1e-5)


def test_parameter_count_is_that_of_the_published_network():
    n_parameters = sum(p.numel() for p in build_model(ModelConfig(name="dcunet10")).parameters())
    assert abs(n_parameters - 1_391_856) < 100  # the earlier code's count


def test_an_unknown_network_is_refused_with_the_names():
    with pytest.raises(ConfigError, match="dcunet10_ctstm"):
        build_model(ModelConfig(name="dcunet11"))


@pytest.mark.parametrize("name", ["dcunet10", "dcunet10_ctstm"])
def test_activation_checkpointing_keeps_less_and_changes_no_gradient_or_statistic(name):
    plain = build_model(ModelConfig(name=name, **SMALL)).train()
    frugal = copy.deepcopy(plain)
    frugal.activation_checkpointing = True
    noisy = torch.randn(2, 8000)
    kept = {}
    for way, model in (("plain", plain), ("frugal", frugal)):
        sizes = []

        def note(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = (model(noisy) - noisy).square().mean()
        kept[way] = sum(sizes)
        loss.backward()
    assert kept["frugal"] < kept["plain"] / 2
    theirs = dict(plain.named_parameters())
    for key, parameter in frugal.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[key].grad, rtol=0, atol=0)
    for key, value in frugal.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[key], rtol=0, atol=0)
