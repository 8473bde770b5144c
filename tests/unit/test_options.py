"""The table of options, and what fills in for those not given."""

from __future__ import annotations

import resource
from pathlib import Path

from cyclone_sse.brokers import CLASSES
from cyclone_sse.options import BROKERS as NAMES
from cyclone_sse.options import DEFAULTS, DERIVED, OPTIONS, most_clients, with_defaults
from tools.option_samples import CONF, ENVIRONMENT, conf, environment
from tools.options_page import page

ROOT = Path(__file__).parents[2]


def test_what_is_given_counts_and_the_rest_has_its_default() -> None:
    settings = with_defaults({"redis-port": 7000, "redis-host": None, "mine": "x"})
    assert settings["redis-port"] == 7000
    assert settings["redis-host"] == "127.0.0.1", "None is not set"
    assert settings["mine"] == "x"
    assert settings["history-size"] == 100, "a number, not its text"
    assert settings["http-secret"] is None
    assert set(DEFAULTS) < set(settings)


def test_what_is_false_is_given() -> None:
    assert with_defaults({"stats": False, "history-size": 0})["stats"] is False
    assert with_defaults({"stats": False, "history-size": 0})["history-size"] == 0


def test_the_configuration_file_lists_every_option_with_its_default() -> None:
    assert CONF.read_text() == conf(), "make docs"


def test_the_environment_file_lists_every_option_with_its_default() -> None:
    assert ENVIRONMENT.read_text() == environment(), "make docs"


def test_the_page_names_the_defaults_that_follow_from_other_options() -> None:
    for name in DERIVED:
        (line,) = [line for line in page().splitlines() if line.startswith(f"| `--{name}` |")]
        assert line.split("|")[2].strip(), "what it is without the option"


def test_every_broker_has_a_name() -> None:
    assert set(CLASSES) <= set(NAMES)


def test_names_are_unique_and_each_option_says_what_it_does() -> None:
    assert len({row.name for row in OPTIONS}) == len(OPTIONS)
    assert len({row.short for row in OPTIONS if row.short}) == sum(row.short is not None for row in OPTIONS)
    assert all(row.help for row in OPTIONS)


def test_the_page_of_options_is_made_from_the_table() -> None:
    assert (ROOT / "docs" / "options.md").read_text() == page(), "make docs"


def test_clients_are_refused_before_the_open_files_are_used_up() -> None:
    assert most_clients(-1) == 0, "without a limit of files there is none of clients"
    assert most_clients(100_000) == 100_000 - 256
    for files in (64, 80, 110, 256, 1024, 4096):
        assert files // 2 <= most_clients(files) < files
    assert with_defaults({})["max-clients"] == most_clients(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    assert with_defaults({"max-clients": 0})["max-clients"] == 0
