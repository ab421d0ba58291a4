"""The system's Chromium, driven by playwright; its own browsers are never downloaded."""

import contextlib
import os
import shutil

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# CI sets COURSE_BROWSER=required, so that a missing browser is no silent pass.
REQUIRED = os.environ.get("COURSE_BROWSER") == "required"
OPTIONS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage
"""
needs_browser = pytest.mark.skipif(
    not (BROWSER or REQUIRED), reason="no Chromium here: sudo apt install chromium"
)


@contextlib.contextmanager
def chromium():
    """Yield a running browser."""
    from playwright.sync_api import sync_playwright

    assert BROWSER, "COURSE_BROWSER=required, and there is no Chromium: apt install chromium"
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=BROWSER, args=OPTIONS.split())
        yield browser
        browser.close()
