"""``penstock.asgi:app``: the application as uvicorn, Mangum and the Lambda Web Adapter want it."""

import gc

gc.disable()  # while modules are imported nothing is garbage; to look for it is a tenth of a cold start

from penstock import settings  # noqa: E402
from penstock.app import App  # noqa: E402
from penstock.bootstrap import build  # noqa: E402
from penstock.schema.source import Source  # noqa: E402

gc.freeze()
gc.enable()

app = App(lambda: build(settings.load()), lambda: build(settings.load(source=Source("", ""))))
