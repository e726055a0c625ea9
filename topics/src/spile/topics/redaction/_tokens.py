"""
Secrets that are known by how they begin.

Each has an anchor, which starts it, and the shape of the whole. Sources: the issuers' published
formats, as secret scanners use them (GitHub, GitLab, AWS IAM, Slack, Stripe, OpenAI, Anthropic,
Google, npm, PyPI, SendGrid, Hugging Face, DigitalOcean; RFC 7519 for JWT, RFC 7468 for PEM).
"""

from __future__ import annotations

import re
from typing import Final

_START: Final = r"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt]))"

_LINE: Final = r"(?:_|%5[Ff])"  # also as some write it in a URL

TOKENS: Final[tuple[tuple[str, str], ...]] = (
    (r"A(?:KIA|SIA|BIA|CCA)", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    (rf"gh[pousr]{_LINE}", r"[A-Za-z0-9]{20,255}"),
    (rf"github{_LINE}pat{_LINE}", r"(?:[A-Za-z0-9_]|%5[Ff]){20,255}"),
    (r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent)-", r"[A-Za-z0-9_.-]{18,255}"),
    (r"xox[abeoprs]-", r"[A-Za-z0-9-]{10,255}"),
    (r"xapp-", r"[A-Za-z0-9-]{12,255}"),
    (r"hooks\.slack\.com/services/", r"[A-Za-z0-9/]{20,100}"),
    (rf"{_START}sk-", r"(?=[a-z_-]{0,512}+[A-Z0-9])[A-Za-z0-9_-]{20,512}"),
    (rf"[prs]k{_LINE}(?:live|test){_LINE}", r"[A-Za-z0-9]{10,255}"),
    (rf"whsec{_LINE}", r"[A-Za-z0-9+/=]{16,255}"),
    (r"AIza", r"[A-Za-z0-9_-]{30,40}"),
    (r"ya29\.", r"[A-Za-z0-9_-]{20,512}"),
    (r"GOCSPX-", r"[A-Za-z0-9_-]{20,64}"),
    (rf"{_START}npm{_LINE}", r"[A-Za-z0-9]{30,64}"),
    (r"pypi-", r"[A-Za-z0-9_-]{40,512}"),
    (r"SG\.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    (rf"{_START}hf{_LINE}", r"[A-Za-z0-9]{25,64}"),
    (rf"do[opr]{_LINE}v1{_LINE}", r"[a-f0-9]{32,80}"),
    (r"eyJ", r"[A-Za-z0-9_-]{8,1024}+\.[A-Za-z0-9_-]{4,16384}(?:\.[A-Za-z0-9_-]{0,4096}){0,3}"),
)
"""Anchor and rest of each kind."""

_WHOLE: Final = "|".join(f"{anchor}{rest}" for anchor, rest in TOKENS)
_ANCHORS: Final = "|".join(anchor for anchor, _ in TOKENS)

TOKEN: Final = re.compile(_WHOLE, re.ASCII)
"""A whole token."""

TOKEN_BEGINS: Final = re.compile(rf"(?:{_ANCHORS})[A-Za-z0-9_.+/=-]*\Z", re.ASCII)
"""The end of a text that may go on as a token in the next one."""

PEM: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"
)
"""A private key, whole or cut off."""

PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
PEM_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")

HINTS: Final = (
    *(anchor.removeprefix(_START) for anchor, _ in TOKENS if not anchor.startswith(_START)),
    *(
        rf"(?:^|(?u:[^A-Za-z0-9])|\\[bfnrt]){anchor.removeprefix(_START)}"
        for anchor, _ in TOKENS
        if anchor.startswith(_START)
    ),
    "PRIVATE KEY",
)
"""What any JSON with one of them matches (Rust regex crate)."""
