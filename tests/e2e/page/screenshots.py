"""`python -m tests.e2e.page.screenshots`: make the README's two pictures of the page, `docs/images/*.png`.

The page, nginx and the service are real. The model is scripted, so that the pictures show the same answers after every
change of the page.
"""

import http.server
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.e2e.page.conftest import CHROMIUM_ARGUMENTS, chromium
from tests.e2e.page.reader import Reader
from tests.e2e.stack import ROOT, Nginx, Service

IMAGES = ROOT / "docs" / "images"
PACE_SECONDS = 0.03
ENGLISH = (
    "How fast does the Danube flow at Budapest?",
    (
        "About **one metre a second** at mean water, and up to three in a flood. It depends on three things:\n\n"
        "- how much water there is: some 2,300 m³/s on average,\n"
        "- how wide and deep the bed is: about 350 m by 5 m,\n"
        "- how steep it is: a few centimetres a kilometre.\n\n"
        "From the first two you can tell the speed yourself:\n\n"
        "```python\ndef speed(flow: float, width: float, depth: float) -> float:\n"
        '    """Metres a second, from m³/s and metres."""\n    return flow / (width * depth)\n\n'
        "print(speed(2300, 350, 5))  # 1.3\n```\n\n"
        "Upstream, in the gorge at *Visegrád*, the same water has less room, so it hurries."
    ),
)
HUNGARIAN = (
    "Honnan kapta a nevét a Tisza?",
    (
        "A név nagyon régi, és **nem magyar eredetű**. A rómaiak *Tisia*, *Tissus* és *Pathissus* alakban írták le.\n\n"
        "Két magyarázat terjedt el:\n\n"
        "1. egy ókori, talán dák vagy szarmata szóból ered, amely iszaposat, sárosat jelenthetett;\n"
        "2. egy még régebbi, indoeurópai szóból, amelynek jelentése egyszerűen folyó víz.\n\n"
        "A magyar alak a honfoglalás után, szláv közvetítéssel alakult ki, és azóta alig változott."
    ),
)


class Actor(http.server.BaseHTTPRequestHandler):
    """A model with two fixed answers."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Stream the answer to the question, word by word."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1]["content"]
        part = dict((ENGLISH, HUNGARIAN))[asked]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        words = part.split(" ")
        for word in words:
            self._chunk({"choices": [{"index": 0, "delta": {"content": f"{word} "}}]})
            time.sleep(PACE_SECONDS)
        self._chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        tokens = {"prompt_tokens": 12, "completion_tokens": len(words), "total_tokens": len(words) + 12}
        self._chunk({"choices": [], "usage": tokens})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _chunk(self, chunk: object) -> None:
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Log nothing."""


@contextmanager
def stage() -> Iterator[str]:
    """Serve the page with the scripted model."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Actor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (
            Service(directory, directory / "answers", f"http://127.0.0.1:{server.server_port}/v1") as service,
            Nginx(directory, service.address, ROOT / "frontend" / "dist") as nginx,
        ):
            yield f"http://{nginx.address}/"
    server.shutdown()


def main() -> None:
    """Take both pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with stage() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        context = browser.new_context(locale="en-GB", color_scheme="light", viewport={"width": 1280, "height": 860})
        reader = Reader(context.new_page()).open(url)
        reader.ask(ENGLISH[0])
        reader.sees_the_end()
        reader.page.locator(".hljs-number").first.wait_for()
        reader.page.screenshot(path=IMAGES / "page-light.png")

        context = browser.new_context(
            locale="hu-HU", color_scheme="dark", viewport={"width": 360, "height": 740}, device_scale_factor=2
        )
        reader = Reader(context.new_page()).open(url)
        reader.ask(HUNGARIAN[0])
        reader.sees_words(45)
        reader.page.screenshot(path=IMAGES / "page-dark-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
