"""``POST /v1/completions``: https://platform.openai.com/docs/api-reference/completions"""

from penstock.dialects._exchange import WireRouter
from penstock.dialects._openai import inference
from penstock.schema.request import COMPLETIONS
from penstock.schema.wire import CompletionBody

router = WireRouter()
router.wire(
    "/v1/completions",
    inference(COMPLETIONS, CompletionBody, "create_completion"),
    body=CompletionBody,
    summary="Continue a text, whole or as a stream",
)
