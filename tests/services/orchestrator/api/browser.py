"""What a web page of another origin sends."""

from __future__ import annotations

PAGE = "https://app.example.com"
KEY = "sk-0123456789abcdef"
CHAT = "/v1/chat/completions"
# What the official client sends from a browser.
ASKED = "authorization,content-type,x-stainless-arch,x-stainless-lang"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": ASKED}
