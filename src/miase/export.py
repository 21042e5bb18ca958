"""The verb ``export``: a model as one ONNX file that says what it is, with its difference measured."""

import contextlib
import importlib.util
import io
import json
import logging
import re
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import miase
from miase.checkpoint import CARD_NAME, load_pretrained, read_config, written_whole
from miase.config_file import to_dict
from miase.errors import ConfigError
from miase.models.onnx_graph import OnnxGraph
from miase.onnx_enhancer import METADATA_KEY, open_session
from miase.registry import resolve

OPSET = 18
LENGTHS = (1, 16000, 16001, 480000)  # samples at which the difference is measured
BATCHES = (1, 3)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        n_bytes: its size.
        largest_difference: largest absolute difference from PyTorch on noise of an RMS of 0.1.
        error_db: energy of the difference over that of PyTorch's estimate, in dB.
        speed: PyTorch's time over that of onnxruntime, for the longest of the lengths, one thread each.
    """

    path: Path
    n_bytes: int
    largest_difference: float
    error_db: float
    speed: float


def export_onnx(
    name_or_folder: str | Path, path: Path, *, int8: bool = False, overwrite: bool = False
) -> Exported:
    """Write a model as ONNX: noisy (batch, time) -> estimate (batch, time), of any length and batch.

    Args:
        name_or_folder: a packaged model, or the folder of one.
        path: file to write.
        int8: store the weights of the convolutions and matrix products in 8 bits and round what goes into
            them to 8 bits as it comes (dynamic quantisation).
        overwrite: replace a file that is there.

    Raises:
        ConfigError: a package is missing, or the file is there already.
        WeightsError: there is no such model.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"exporting needs {package}; install it with: pip install 'miase[onnx]'")
    if path.suffix != ".onnx":
        raise ConfigError(f"the output is {path}; its name must end with .onnx")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already; choose another name, or give --overwrite")
    folder = resolve(name_or_folder)
    model = load_pretrained(folder)
    import onnx

    graph = _graph(model)
    for key, value in _metadata(folder, str(name_or_folder)).items():
        graph.metadata_props.add(key=key, value=value)
    graph.producer_name, graph.producer_version = "miase", miase.__version__
    graph.doc_string = "Speech enhancement: noisy (batch, time) -> estimate (batch, time)"
    onnx.checker.check_model(graph)
    with written_whole(path) as temporary:
        onnx.save(graph, temporary)
        if int8:
            _quantise(temporary)
    return _compare(model, path)


def _graph(model: torch.nn.Module):  # type: ignore[no-untyped-def]  # noqa: ANN202 - onnx is imported late
    auto = torch.export.Dim.AUTO
    noise = torch.randn(2, 60_000)
    for chatty in ("onnxscript", "onnx_ir", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            OnnxGraph(model).eval(),  # type: ignore[arg-type]
            (noise,),
            dynamo=True,
            dynamic_shapes={"noisy": {0: auto, 1: auto}},
            input_names=["noisy"],
            output_names=["estimate"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _metadata(folder: Path, name: str) -> dict[str, str]:
    config, digest = read_config(folder)
    card = folder / CARD_NAME
    licence = None
    if card.is_file():
        licence = re.search(r"\*\*Licence\*\*: *(.+?)(?:\n- |\n\n|$)", card.read_text(encoding="utf-8"), re.S)
    return {
        METADATA_KEY: json.dumps(to_dict(config)),
        "name": Path(name).name,
        "sample_rate": str(config.sample_rate),
        "licence": " ".join(licence[1].split()) if licence else "not stated",
        "sha256": digest,
    }


def _quantise(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.onnx"
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # it recommends a step that dynamic shapes do not survive
        try:
            quantize_dynamic(
                path, small, op_types_to_quantize=["Conv", "MatMul"], weight_type=QuantType.QUInt8
            )
        finally:
            root.setLevel(level)
        path.write_bytes(small.read_bytes())


def _compare(model: torch.nn.Module, path: Path) -> Exported:
    session = open_session(path, threads=1)
    generator = torch.Generator().manual_seed(0)
    largest, error, energy = 0.0, 0.0, 0.0
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = [0.0, 0.0]
    with torch.inference_mode():
        for batch in BATCHES:
            for length in LENGTHS:
                noisy = 0.1 * torch.randn(batch, length, generator=generator)
                times = [time.perf_counter()]
                expected = model(noisy).numpy()
                times.append(time.perf_counter())
                (estimate,) = session.run(None, {"noisy": noisy.numpy()})
                times.append(time.perf_counter())
                if length == LENGTHS[-1]:
                    seconds = [
                        s + later - now for s, now, later in zip(seconds, times, times[1:], strict=False)
                    ]
                difference = estimate - expected
                largest = max(largest, float(np.abs(difference).max()))
                error += float(np.square(difference).sum())
                energy += float(np.square(expected).sum())
    torch.set_num_threads(n_threads)
    error_db = 10 * float(np.log10(error / energy + 1e-20))
    return Exported(path, path.stat().st_size, largest, error_db, seconds[0] / seconds[1])
