"""Alerts: rules that watch the gateway's numbers, what they find, and the telling of it."""
