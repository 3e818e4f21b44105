"""The page at `/`: one hand-written file, no third-party code."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)
_STATIC = Path(__file__).resolve().parent.parent / "static"
# Everything the page shows comes from models and tools: it may load and run nothing but itself.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; style-src 'self'; "
    "script-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@router.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(_STATIC / "index.html", headers=_HEADERS)


@router.get("/static/page.js")
async def script() -> FileResponse:
    """Its script."""
    return FileResponse(_STATIC / "page.js", media_type="text/javascript", headers=_HEADERS)


@router.get("/static/page.css")
async def style() -> FileResponse:
    """Its style sheet."""
    return FileResponse(_STATIC / "page.css", media_type="text/css", headers=_HEADERS)
