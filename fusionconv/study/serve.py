"""``fusionconv serve``: the what-if page of a finished study, on this machine alone. Gradio draws it."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusionconv.errors import StudyError

__all__ = ["demo_study", "free_port", "serve"]

_FIRST, _LAST = 7860, 7959


def serve(
    study: str | None = None, arm: str | None = None, host: str = "127.0.0.1", port: int | None = None,
    wait: bool = True,
) -> Any:  # fmt: skip
    """Open the what-if page of a finished study in a server on this machine.

    Nothing is sent elsewhere: no telemetry, no fonts or scripts of other hosts, and no picture is written to a file.
    There is no password: with another ``host`` than the default, whoever reaches this machine sees the images.

    Args:
        study: folder of a finished comparison; default: the demo study in ``runs/demo-2d``, made where it is not there.
        arm: the arm that is shown first; default: the first hybrid one.
        host: the address that is listened at; ``0.0.0.0``: every one of this machine's.
        port: default: the first free one from 7860 on.
        wait: until the process is stopped (control-C); False: return the running page, whose ``close()`` ends it.

    Returns:
        The page (``gradio.Blocks``); its ``local_url`` is the address.

    Raises:
        StudyError: Gradio is not installed; no study or arm; a port that is in use.
    """
    if importlib.util.find_spec("gradio") is None:
        raise StudyError("serve: expected the package gradio, got none; pip install 'fusionconv[serve]'")
    chosen = free_port(host, port)
    from fusionconv.study.what_if import WhatIf

    what_if = WhatIf.open(demo_study() if study is None else study)
    first = what_if.arm(arm)
    from fusionconv.study.what_if.cards import CSS
    from fusionconv.study.what_if.page import Page

    page = Page(what_if, first).blocks
    with _no_proxy():
        page.launch(**_launch_options(), css=CSS, server_name=host, server_port=chosen)
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{chosen}"
    print(f"what-if page of {what_if.out}: {address} (stop it with control-C)", flush=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(f"listening at {host} without a password: whoever reaches this machine sees the images", file=sys.stderr)
    if wait:
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        page.close(verbose=False)
    return page


def demo_study() -> Path:
    """The folder of the demo study, which is trained here where it has not been; its progress goes to the terminal."""
    folder = Path("runs/demo-2d")
    if not (folder / "results.csv").is_file():  # the last thing that a comparison writes before its report
        from fusionconv.study.demo import demo

        print(f"no --study: training the demo study in {folder}, once; it takes one to four minutes", flush=True)
        demo(2, str(folder))
    return folder


def free_port(host: str, port: int | None) -> int:
    """The port, or the first free one where None is given.

    Raises:
        StudyError: no port, or one in use; the message names one that is free.
    """
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
        raise StudyError(f"port: expected a whole number from 1 to 65535, got {port!r}")
    if port is not None and _is_free(host, port):
        return port
    found = next((p for p in range(_FIRST, _LAST + 1) if _is_free(host, p)), None)
    if port is None and found is not None:
        return found
    hint = f"give --port {found}, which is free" if found is not None else f"none of {_FIRST} to {_LAST} is free either"
    raise StudyError(f"port: expected a free one, got {port or _FIRST}, which is in use or not allowed; {hint}")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror as error:
            raise StudyError(f"host: expected an address of this machine, got {host!r} ({error.strerror})") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise StudyError(
                    f"host: expected an address of this machine, such as 127.0.0.1, got {host!r}"
                ) from error
            return False
    return True


@contextlib.contextmanager
def _no_proxy() -> Iterator[None]:
    """Gradio asks its own server whether it runs; that must not go through a proxy."""
    before = {name: os.environ.get(name) for name in ("NO_PROXY", "no_proxy")}
    for name, value in before.items():
        os.environ[name] = ",".join(filter(None, [value, "127.0.0.1", "localhost", "::1"]))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _launch_options() -> dict[str, Any]:
    """Everything that could leave this machine is off, whatever Gradio's environment variables say."""
    import gradio as gr
    from starlette.middleware import Middleware

    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", radius_size="md", text_size="md", spacing_size="md", font=fonts,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_400",
    )  # fmt: skip
    return {
        "share": False, "prevent_thread_lock": True, "quiet": True, "inbrowser": False, "inline": False,
        "show_error": True, "footer_links": [], "run_history": False, "enable_monitoring": False, "ssr_mode": False,
        "pwa": False, "mcp_server": False, "theme": theme,
        "app_kwargs": {"middleware": [Middleware(_OnlyThisHost)]},
    }  # fmt: skip


class _OnlyThisHost:
    """A header by which the browser refuses to ask any other host, whatever a page's script wants."""

    POLICY = (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
        "frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
    )

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(b"content-security-policy", self.POLICY.encode()), (b"referrer-policy", b"no-referrer")]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        await self.app(scope, receive, with_policy)
