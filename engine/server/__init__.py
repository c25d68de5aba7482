"""The process that keeps models loaded: its messages, what it does for each, and the client that starts it."""
