"""The Accept header (RFC 9110, section 12.5.1)."""

import re

_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE | re.ASCII)


def quality(accept: str, media_type: str) -> float:
    """Return how much (0 to 1) the header likes the media type; the most specific range that matches it decides."""
    kind = media_type.partition("/")[0]
    best_specificity, best_quality = -1, 0.0
    for element in accept.split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        specificity = {"*/*": 0, f"{kind}/*": 1, media_type: 2}.get(name.lower(), -1)
        if specificity <= best_specificity:
            continue
        best_specificity, best_quality = specificity, 1.0
        for parameter in parameters:
            match = _QUALITY.fullmatch(parameter)
            if match:
                best_quality = float(match[1])
    return best_quality
