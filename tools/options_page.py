"""docs/options.md, made from the table by `make docs`."""

from __future__ import annotations

from cyclone_sse.options import OPTIONS, Option

HEAD = """\
# Options

A value comes from the command line, else from the environment (`CYCLONE_SSE_HTTP_SECRET` for
`--http-secret`), else it is the default. An empty value means "not set", so that a file can list every
option, one a line:

```sh
twistd -n cyclone-sse -h
twistd -n cyclone-sse $(cat cyclone-sse.conf)
```

This page is made from the table in `cyclone_sse/options.py` by `make docs`.

| option | default | what |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(map(_line, OPTIONS))


def _line(row: Option) -> str:
    name = f"`--{row.name}`" + (f", `-{row.short}`" if row.short else "")
    text = row.help.partition(" [default:")[0].replace("|", "\\|").replace("*", "\\*")
    return f"| {name} | {f'`{row.default}`' if row.default else ''} | {text} |\n"


if __name__ == "__main__":
    print(page(), end="")
