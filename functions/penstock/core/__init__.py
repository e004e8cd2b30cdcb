"""The thinking: no AWS, no web framework, no HTTP client."""
