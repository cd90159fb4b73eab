"""Who makes a browser ask: a page of this service or an allowed one, and not another site's."""

from service.config import Settings
from service.context import RequestContext
from service.errors import FolyamError


def check_site(context: RequestContext, settings: Settings) -> None:
    """Refuse a request that another site's page makes a browser send. Its answer would be paid for.

    Raises:
        FolyamError: 403, unless `cors_origins` allows the site.
    """
    if (
        context.headers.get(b"sec-fetch-site") == b"cross-site"
        and context.header(b"origin") not in settings.cors_origins
    ):
        raise FolyamError("cross_site")


def is_json(content_type: str) -> bool:
    """Return whether the content type is JSON's. Another site's form cannot send that."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
