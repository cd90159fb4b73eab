"""Imports the packages of the service and of its server, for the process from which `tests.e2e.forked` forks.

Left out is what reads its environment when it is imported, and what is the service's own: `service.main` claims the
place of its metrics before it imports the rest.
"""

import gc
from importlib import import_module

for _name in (
    "aiohappyeyeballs",
    "fastapi",
    "gunicorn.app.wsgiapp",
    "gunicorn.arbiter",
    "httptools",
    "inotify_simple",
    "msgspec",
    "openai",
    "pydantic_settings",
    "starlette.middleware.cors",
    "structlog",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn_worker",
    "uvloop",
):
    import_module(_name)

# No collection writes to the memory that the forks share.
gc.collect()
gc.freeze()
