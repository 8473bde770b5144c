"""Tests in a real browser: the jQuery plugins, the example pages and the demo page."""
