"""Put several servers behind one address, with the web server Caddy as the load balancer.

`balancer.caddyfile` defines how it chooses a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from course_lib.errors import CourseError
from course_lib.serve.discovery import Server
from course_lib.serve.process import ServerProcess, free_port

CONFIG = Path(__file__).with_name("balancer.caddyfile")
PAUSE = 0.1  # seconds between two attempts of a request


class Balancer(ServerProcess):
    """A load balancer at `url` for several servers (`replicas`).

    The header `x-replica` names the one that answered. A request goes to the replica with the fewest running
    requests. If a replica dies before its answer has begun, the request goes to another one. An answer that
    has begun is cut off; clients report this as an error.
    """

    def __init__(
        self,
        servers: Sequence[ServerProcess | Server | str],
        *,
        port: int = 0,
        check: str = "/v1/models",
        cool_down: float = 2.0,
        wait: float = 10.0,
        ready_timeout: float = 30.0,
    ) -> None:
        """Start the load balancer, and wait until a replica answers through it.

        servers: servers, or their URLs. port: 0 chooses a free one. check: the path at which each replica is
        checked every second. cool_down: seconds without requests for a replica after a failure. wait: for
        about how many seconds a request is retried while replicas fail; this includes a request that itself
        makes servers crash. Raises CourseError for a URL with a path, if Caddy is not installed, if the port
        is taken, and if no replica answers within `ready_timeout` seconds.
        """
        if not servers or cool_down <= 0 or wait < PAUSE:
            what = f"{len(servers)} servers, cool_down={cool_down}, wait={wait}; minima: 1, above 0, {PAUSE}"
            raise CourseError(what, "Balancer([url], cool_down=2, wait=10)")
        self.replicas, port = [_address(server) for server in servers], free_port(port)
        super().__init__(
            "balancer",
            ["caddy", "run", "--adapter", "caddyfile", "--config", str(CONFIG)],
            port=port,
            ready=check,
            install="pip install local-ai-measured",
            environment={
                "BALANCER_PORT": str(port),
                "BALANCER_REPLICAS": " ".join(self.replicas),
                "BALANCER_RETRIES": str(round(wait / PAUSE)),
                "BALANCER_PAUSE": f"{PAUSE}s",
                "BALANCER_COOL_DOWN": f"{cool_down}s",
                "BALANCER_CHECK": check,
                "XDG_DATA_HOME": "{folder}",  # otherwise Caddy writes into the user's folder
            },
            log=None,
            ready_timeout=ready_timeout,
            restarts=3,
        )


def _address(server: ServerProcess | Server | str) -> str:
    """`host:port` of a server. Raises CourseError for another URL than http://host:port."""
    url = server if isinstance(server, str) else server.url
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:  # not a number, or above 65535
        port = None
    if parts.scheme != "http" or not port or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        fix = 'Balancer(["http://127.0.0.1:8000", "http://127.0.0.1:8001"])'
        raise CourseError(f"a replica's address is http://host:port, without a path; got {url!r}", fix)
    return parts.netloc
