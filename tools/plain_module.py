"""Make media/cyclone-sse.global.js from media/cyclone-sse.js: python -m tools.plain_module."""

from __future__ import annotations

import re

from tests.harness.process import ROOT

MODULE = ROOT / "media" / "cyclone-sse.js"
PLAIN = ROOT / "media" / "cyclone-sse.global.js"


def plain(module: str) -> str:
    """The text of a script that sets `window.cycloneSSE` to an object with what the module exports."""
    names = re.findall(r"^export function (\w+)", module, re.MULTILINE)
    body = re.sub(r"^export ", "", module, flags=re.MULTILINE)
    assert names, "the module exports nothing"
    assert "\nexport" not in body, "the module exports something besides functions"
    head = "/* Made from cyclone-sse.js, for pages without modules: sets window.cycloneSSE. */\n"
    end = f"window.cycloneSSE = {{{', '.join(names)}}};\n}}());\n"
    return f"{head}(function () {{\n'use strict';\n\n{body}\n{end}"


if __name__ == "__main__":
    PLAIN.write_text(plain(MODULE.read_text()))
