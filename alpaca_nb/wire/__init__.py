"""Alpaca's conversation, without any input or output."""
