"""The side server: health for the orchestrator, metrics for Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator, Sequence

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spile.services.runtime._health import Health
from spile.spi import ConfigurationError

_CLOSE_S = 2


class _Server(uvicorn.Server):
    """Without signal handlers: those belong to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Capture nothing."""
        yield


def side_app(healths: Sequence[Health]) -> Starlette:
    """
    Return the application: `/healthz`, `/readyz`, `/metrics`.

    `/healthz` answers as long as the event loop runs. `/readyz` is 503 with the reasons, by group,
    when one of the workers does not get on.
    """

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        reasons = {health.group: found for health in healths if (found := health.reasons())}
        if reasons:
            return JSONResponse({"status": "not ready", "reasons": reasons}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def metrics(_: Request) -> Response:
        for health in healths:
            health.reasons()  # sets `spile_ready`, whether or not somebody asks for /readyz
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


@contextlib.asynccontextmanager
async def side_server(app: Starlette, *, host: str, port: int) -> AsyncGenerator[int]:
    """
    Serve an application in this event loop; gives the port.

    Args:
        app: What to serve.
        host: Address to listen at.
        port: 0 takes a free one.

    Raises:
        ConfigurationError: The address cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as exc:
        raise ConfigurationError(
            f"SPILE_HTTP_PORT: cannot listen at {host}:{port}: {exc.strerror or exc}",
            setting="SPILE_HTTP_PORT",
        ) from exc
    with listener:
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=_CLOSE_S,
            )
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]), name="side server")
            try:
                yield int(listener.getsockname()[1])
            finally:
                server.should_exit = True
