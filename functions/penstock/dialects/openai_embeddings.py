"""``POST /v1/embeddings``: https://platform.openai.com/docs/api-reference/embeddings"""

from penstock.dialects._exchange import WireRouter
from penstock.dialects._openai import inference
from penstock.schema.request import EMBEDDINGS
from penstock.schema.wire import EmbeddingBody

router = WireRouter()
router.wire(
    "/v1/embeddings",
    inference(EMBEDDINGS, EmbeddingBody, "create_embedding"),
    body=EmbeddingBody,
    summary="Turn texts or token arrays into vectors",
)
