"""``penstock.asgi:app``: the application as uvicorn, Mangum and the Lambda Web Adapter want it."""

from penstock import settings
from penstock.app import App
from penstock.bootstrap import build

app = App(lambda: build(settings.load()))
