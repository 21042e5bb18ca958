"""The command line: its verbs, and how errors become messages and exit codes.

Exit codes: 0 all done, 1 something failed, 2 the command was not understood, 3 an adaptation was no better
and the weights stayed as they were, 130 interrupted. The verbs themselves stand in ``verbs/`` and are
imported only when they are called, so ``--help`` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter
from cyclopts.config import Dict

import miase
from miase.errors import ConfigError, MiaseError

VERBS = {
    "enhance": "Take the noise out of recordings.",
    "train": "Train a model on a folder of noisy recordings; no clean speech is needed.",
    "audit": "Say what a folder of noisy recordings is worth as material to learn from.",
    "adapt": "Fit a model to noisy recordings, in minutes; no clean speech is needed.",
    "compare": "Compare objectives, networks, corpora and seeds under one trainer.",
    "corpus": "Make noisy recordings from speech and noise, to train or to test with.",
    "evaluate": "Measure how good estimates or systems are, with clean speech or without.",
    "export": "Write a model as one ONNX file.",
    "serve": "Serve a page in the browser, and an API for programs.",
    "doctor": "Show versions, devices, codecs and weights.",
}

MODELS_VERBS = {
    "list": "List the packaged models.",
    "info": "Show a model's card.",
    "verify": "Compare the weights of the packaged models with their SHA-256.",
}


def _run_defaults(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Let ``--config FILE`` or a resumed run give the settings that no flag gives."""
    given = {argument.name: argument.tokens[-1].value for argument in arguments if argument.tokens}
    path: str | Path | None = given.get("--config")
    if path is None and given.get("--resume") is not None and "-o" in given:
        saved = Path(given["-o"]) / "config.toml"
        path = saved if saved.is_file() else None
    if path is None:
        return
    from miase.config_file import load_toml, to_dict

    settings: dict[str, Any] = {}
    for table, values in to_dict(load_toml(Path(path))).items():
        for key, value in values.items():
            settings[table if key == "name" else key.replace("_", "-")] = value
    Dict(settings, use_commands_as_keys=False, source=str(path))(app, commands, arguments)


def _shown(default: Any) -> str | None:
    """A default as one would type it; none for flags that are off and for empty lists."""
    if default is False or default is None or default == ():
        return None
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _app() -> App:
    app = App(
        name="miase",
        help=f"{miase.__doc__}",
        version=miase.__version__,
        default_parameter=Parameter(negative=(), show_default=_shown),
    )
    for verb, text in VERBS.items():
        config = _run_defaults if verb == "train" else None
        app.command(f"miase.verbs:{verb}", name=verb, help=text, config=config)
    models = App(name="models", help="The packaged models.")
    for verb, text in MODELS_VERBS.items():
        models.command(f"miase.verbs:models_{verb}", name=verb, help=text)
    app.command(models)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command; gives its exit code."""
    # The parser takes a lone - for an option; as a path it is the same.
    arguments = ["./-" if argument == "-" else argument for argument in arguments]
    try:
        code = _app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        verb = arguments[0] if arguments and arguments[0] in (*VERBS, "models") else ""
        message = " ".join(str(error).split())
        print(f"miase: {message} See 'miase {verb}{' ' if verb else ''}--help'.", file=sys.stderr)
        return 2
    except MiaseError as error:
        print(f"miase: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away
        return 1
    except OSError as error:  # a folder that cannot be made, a full disk
        print(f"miase: {error.filename or 'the disk'}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("miase: interrupted", file=sys.stderr)
        return 130
    return code if isinstance(code, int) else 0
