"""``POST /v1/chat/completions``: https://platform.openai.com/docs/api-reference/chat/create"""

from penstock.dialects._exchange import WireRouter
from penstock.dialects._openai import inference
from penstock.schema.request import CHAT
from penstock.schema.wire import ChatBody

router = WireRouter()
router.wire(
    "/v1/chat/completions",
    inference(CHAT, ChatBody, "create_chat_completion"),
    body=ChatBody,
    summary="Answer a conversation, whole or as a stream",
)
