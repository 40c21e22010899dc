"""An HTTP server on loopback, whose answers a test scripts."""

import http.server
import threading


class LoopbackServer(http.server.ThreadingHTTPServer):
    """Serves in threads of its own from its construction to the end of its `with` block."""

    def __init__(self, handler, path=""):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}{path}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *raised):
        self.shutdown()
        super().__exit__(*raised)

    def handle_error(self, request, client_address):
        """Ignore clients that have given up."""


class Handler(http.server.BaseHTTPRequestHandler):
    """A handler that does not log."""

    def log_message(self, *_):
        pass
