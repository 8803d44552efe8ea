"""The page at ``/``: a chat, in one file that needs nothing from elsewhere."""

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import HTMLResponse, Response

_FILE = Path(__file__).with_name("page.html")


def page() -> Response:
    """The page, with a policy under which a browser runs its own script and nothing else.

    Nothing is loaded from elsewhere, no other page may frame it, and what a model says can't become markup: elements can't be
    made from texts at all (``require-trusted-types-for``).
    """
    text = _FILE.read_text(encoding="utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _hash_of("script", text),
        "style-src": _hash_of("style", text),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    headers = {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
    return HTMLResponse(text, headers=headers)


def _hash_of(tag: str, text: str) -> str:
    """What names the page's only element of this kind in a policy."""
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
