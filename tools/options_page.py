"""docs/options.md, made from the table of options by `make docs`."""

from __future__ import annotations

import re

from cyclone_sse.options import OPTIONS, Option

HEAD = """\
# Options

A value comes from the command line, else from the environment (`CYCLONE_SSE_HTTP_SECRET` for
`--http-secret`), else from the file that `--config` names, else it is the default. An empty value means
"not set", so that a file can list every option, one on each line. The first command shows all of them; the
other two read a file:

```sh
twistd -n cyclone-sse -h
twistd -n cyclone-sse --config=cyclone-sse.conf
twistd -n cyclone-sse $(cat cyclone-sse.conf)
```

This page is made from the table in `cyclone_sse/options.py` by `make docs`.

| option | default | what |
| --- | --- | --- |
"""

_DERIVED = re.compile(r" \[default: (.*)\]")  # a default in a help text that is no fixed value


def page() -> str:
    """The whole page."""
    return HEAD + "".join(map(_line, OPTIONS))


def _line(row: Option) -> str:
    name = f"`--{row.name}`" + (f", `-{row.short}`" if row.short else "")
    derived = _DERIVED.search(row.help)
    default = derived[1] if derived else f"`{row.default}`" if row.default else ""
    text = _DERIVED.sub("", row.help)
    return f"| {name} | {_escape(default)} | {_escape(text)} |\n"


def _escape(text: str) -> str:
    """Escape the text for Markdown, except in backticks."""
    return text if text.startswith("`") else text.replace("|", "\\|").replace("*", "\\*")


if __name__ == "__main__":
    print(page(), end="")
