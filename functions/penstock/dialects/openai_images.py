"""``POST /v1/images/generations``: https://platform.openai.com/docs/api-reference/images/create"""

from penstock.dialects._exchange import WireRouter
from penstock.dialects._openai import inference
from penstock.schema.request import IMAGES
from penstock.schema.wire import ImageBody

router = WireRouter()
router.wire(
    "/v1/images/generations",
    inference(IMAGES, ImageBody, "create_image"),
    body=ImageBody,
    summary="Make images from a text",
)
