"""Webhooks: who wants to be told of what, what is to be told to whom, and the sending of it until it has arrived."""
