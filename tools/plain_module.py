"""Make media/cyclone-sse.js and media/cyclone-sse.global.js from media/src: python -m tools.plain_module.

Without this, a page would need a build step: the source has one file for each concept.
"""

from __future__ import annotations

import re

from tests.harness.process import ROOT

SOURCE = ROOT / "media" / "src"
MODULE = ROOT / "media" / "cyclone-sse.js"
PLAIN = ROOT / "media" / "cyclone-sse.global.js"
# in the order of their imports
PARTS = ("ids", "timers", "parser", "request", "rooms", "link", "hub", "group", "connect")
PUBLIC = "connect"
_IMPORT = re.compile(r"^import \{[^}]*\} from '\./(\w+)\.js';\n", re.MULTILINE)
_HEAD = """\
/*
 * cyclone-sse.js: server-sent events for pages and Node.js, without dependencies. Types: cyclone-sse.d.ts.
 *
 *     import {connect} from '/media/cyclone-sse.js';
 *     const stream = connect('/sse/', {channels: ['news'], shared: true});
 *     stream.on('message', (event) => show(event.json));
 *     stream.on('gap', ({channels}) => reload(channels));
 *
 * It reads the stream with fetch, where EventSource shows neither the status of a refusal nor a proxy's error
 * page, and cannot send a token. Made from media/src: change the files there, and run `make docs`.
 */
"""


def module() -> str:
    """Join the parts into one module, which exports only what the last part exports."""
    texts = [(SOURCE / f"{name}.js").read_text() for name in PARTS]
    for number, text in enumerate(texts):
        missing = set(_IMPORT.findall(text)) - set(PARTS[:number])
        assert not missing, f"{PARTS[number]}.js imports {missing}, which come later"
    definition = r"^(?:export )?(?:async )?(?:const|let|function) (\w+)"
    names = re.findall(definition, "".join(texts), re.MULTILINE)
    assert len(names) == len(set(names)), "a name is defined in two parts"
    inner = re.compile(rf"^export (?!function {PUBLIC}\b)", re.MULTILINE)
    return "\n".join([_HEAD, *(inner.sub("", _IMPORT.sub("", text)) for text in texts)])


def plain(text: str) -> str:
    """Return a script that sets the global `cycloneSSE` to an object with the exports of this module."""
    names = re.findall(r"^export function (\w+)", text, re.MULTILINE)
    body = re.sub(r"^export ", "", text, flags=re.MULTILINE)
    assert names, "the module exports nothing"
    assert "\nexport" not in body, "the module exports other things than functions"
    head = (
        "/* Made from cyclone-sse.js, for pages and workers without modules: sets the global cycloneSSE. */\n"
    )
    end = f"globalThis.cycloneSSE = {{{', '.join(names)}}};\n}}());\n"
    return f"{head}(function () {{\n'use strict';\n\n{body}\n{end}"


if __name__ == "__main__":
    MODULE.write_text(module())
    PLAIN.write_text(plain(module()))
