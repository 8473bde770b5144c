"""The answer of a language model, word by word."""
