"""The verb that serves the page and the API: `serve`."""

from typing import Annotated

from cyclopts import Parameter

from miase.service.settings import ServiceConfig
from miase.verbs.flags import Quiet


def serve(
    *,
    config: Annotated[ServiceConfig, Parameter(name="*")] = ServiceConfig(),  # noqa: B008 - frozen
    quiet: Quiet = False,
) -> int:
    """Serve a page in the browser, and an API for programs, on this machine.

    Parameters
    ----------
    quiet: bool
        print nothing but errors.
    """
    import importlib.util

    from miase.errors import ConfigError

    missing = [
        name for name in ("fastapi", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ConfigError(f"serve needs {' and '.join(missing)}; install them with: pip install 'miase[web]'")
    from miase.service.app import serve as run

    def show(address: str) -> None:
        if not quiet:
            print(f"miase serves {address} until Ctrl-C ends it", flush=True)

    run(config, show)
    return 0
