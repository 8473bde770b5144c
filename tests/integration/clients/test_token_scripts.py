"""The scripts that fetch tokens for the module, with answers of an application that works or is away."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.harness.docs import shown
from tests.harness.patience import PATIENCE
from tests.harness.process import need

IMPORT = "import {connect} from '/media/cyclone-sse.js';"
SCRIPT = """
let status, body, options;
globalThis.fetch = async () => new Response(body, {status});
const connect = (address, given) => { options = given; };
%s
const given = [];
for ([status, body] of %s) {
    given.push(await options.token().catch(() => 'failed'));
}
console.log(JSON.stringify(given));
"""
# A page that is logged in, one that is not, an application that fails, and two proxies without an application
ANSWERS = [[200, "token"], [401, ""], [500, ""], [502, ""], [503, "Service Unavailable"], [429, "later"]]


@pytest.mark.parametrize("page", ["clients/python/README.md", "clients/php/README.md"])
def test_a_token_is_fetched_again_when_the_application_is_back(page: str) -> None:
    """The module takes an error page for a token, and stops after some: the function must fail instead."""
    script = SCRIPT % (shown(page, "push.js", "js").replace(IMPORT, ""), json.dumps(ANSWERS))
    command = [need("node"), "--input-type=module", "-e", script]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=PATIENCE)
    assert json.loads(done.stdout) == ["token", "", "failed", "failed", "failed", "failed"]
