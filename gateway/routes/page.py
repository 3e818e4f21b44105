"""The page at `/`: hand-written, without a build step or third-party code."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from services.contracts.errors import NotFound

router = APIRouter(include_in_schema=False)
_SCRIPT = "text/javascript"
_ASSETS = {"page.css": "text/css", "page.js": _SCRIPT, "view.js": _SCRIPT, "parts.js": _SCRIPT}
_STATIC = Path(__file__).resolve().parent.parent / "static"
# Everything the page shows comes from models and tools: it may load and run nothing but itself.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; style-src 'self'; "
    "script-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(_STATIC / "index.html", headers=_HEADERS)


@router.get("/static/{name}")
async def asset(name: str) -> FileResponse:
    """One of its files."""
    if name not in _ASSETS:
        raise NotFound(f"no file {name[:100]!r}; the page has {', '.join(_ASSETS)}")
    return FileResponse(_STATIC / name, media_type=_ASSETS[name], headers=_HEADERS)
