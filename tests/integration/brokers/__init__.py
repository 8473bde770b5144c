"""Tests with a real Redis and a real RabbitMQ."""
