"""Faults that are told by a status: busy, broken, not ours, not there."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from tests.wire.outage.answers import streams, whole
from tests.wire.outage.faults import BUSY, DOWN, LATE, ODD, Catalogue
from tests.wire.upstream import Call, Document

FAULTS = Catalogue()

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><center>nginx/1.27.0</center></body></html>"


def error(message: str, kind: str = "server_error", code: str | None = None) -> Document:
    """An error as OpenAI words it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


SLOW_DOWN = error("Rate limit reached for requests", "requests", "rate_limit_exceeded")


# Busy


@FAULTS.add(BUSY)
async def too_many_requests(call: Call) -> None:
    call.answer(SLOW_DOWN, 429)


@FAULTS.add(BUSY)
async def too_many_requests_for_seconds(call: Call) -> None:
    call.answer(SLOW_DOWN, 429, Retry_After="7")


@FAULTS.add(BUSY)
async def too_many_requests_until_a_date(call: Call) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)
    call.answer(SLOW_DOWN, 429, Retry_After=date)


@FAULTS.add(BUSY)
async def too_many_requests_for_milliseconds(call: Call) -> None:
    call.answer(SLOW_DOWN, 429, retry_after_ms="6500")


@FAULTS.add(BUSY)
async def overloaded_529(call: Call) -> None:
    call.answer({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)


@FAULTS.add(BUSY)
async def unavailable_503_with_retry_after(call: Call) -> None:
    call.answer(error("The engine is currently overloaded, please try again later"), 503, Retry_After="7")


# Broken


@FAULTS.add(DOWN)
async def server_error_500(call: Call) -> None:
    call.answer(error("The server had an error while processing your request"), 500)


@FAULTS.add(DOWN)
async def bad_gateway_502_with_a_page(call: Call) -> None:
    call.answer(PAGE, 502, "text/html")


@FAULTS.add(DOWN)
async def bad_gateway_502_compressed(call: Call) -> None:
    call.answer(gzip.compress(PAGE), 502, "text/html", Content_Encoding="gzip")


@FAULTS.add(DOWN)
async def unavailable_503(call: Call) -> None:
    call.answer(b"upstream connect error or disconnect/reset before headers", 503, "text/plain")


@FAULTS.add(LATE)
async def gateway_timeout_504(call: Call) -> None:
    call.answer(PAGE, 504, "text/html")


@FAULTS.add(LATE)
async def request_timeout_408(call: Call) -> None:
    call.answer(error("Request timed out"), 408)


@FAULTS.add(DOWN)
async def cloudflare_520(call: Call) -> None:
    call.answer(b"error code: 520", 520, "text/plain")


@FAULTS.add(DOWN)
async def an_error_whose_body_is_cut(call: Call) -> None:
    call.write(b'HTTP/1.1 500 Oops\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"error": {"mess')
    call.close()


# Not the caller's fault


@FAULTS.add(DOWN)
async def our_credential_refused_401(call: Call) -> None:
    call.answer(error("Incorrect API key provided", "invalid_request_error", "invalid_api_key"), 401)


@FAULTS.add(DOWN)
async def our_credential_forbidden_403(call: Call) -> None:
    call.answer(error("Your organisation must be verified to use this model", "invalid_request_error"), 403)


@FAULTS.add(DOWN)
async def no_credit_402(call: Call) -> None:
    call.answer(error("Insufficient Balance", "unknown_error", "invalid_request_error"), 402)


@FAULTS.add(DOWN)
async def no_credit_told_as_400(call: Call) -> None:
    call.answer(error("Your credit balance is too low to access the API.", "invalid_request_error"), 400)


@FAULTS.add(DOWN)
async def no_credit_told_as_429(call: Call) -> None:
    quota = error("You exceeded your current quota, please check your plan", "insufficient_quota", "insufficient_quota")
    call.answer(quota, 429, Retry_After="1")


@FAULTS.add(DOWN)
async def model_not_found_404(call: Call) -> None:
    call.answer(error("The model `engine-1` does not exist", "invalid_request_error", "model_not_found"), 404)


@FAULTS.add(DOWN)
async def model_retired_410(call: Call) -> None:
    call.answer(error("This model has been retired", "invalid_request_error"), 410)


@FAULTS.add(DOWN)
async def wrong_address_405(call: Call) -> None:
    call.answer(b"Method Not Allowed", 405, "text/plain")


@FAULTS.add(DOWN)
async def redirected_302(call: Call) -> None:
    call.answer(b"", 302, "text/html", Location=f"http://{call.headers['host']}/elsewhere")


@FAULTS.add(DOWN)
async def redirected_307(call: Call) -> None:
    call.answer(b"", 307, "text/html", Location=f"http://{call.headers['host']}/elsewhere")


# 200, and yet an error


@FAULTS.add(DOWN)
async def an_error_in_a_200(call: Call) -> None:
    call.answer(error("The server is overloaded or not ready yet"))


@FAULTS.add(BUSY)
async def a_flat_429_in_a_200(call: Call) -> None:
    call.answer(
        {"object": "error", "message": "The request queue is full.", "type": "BUSY", "param": None, "code": 429}
    )


@FAULTS.add(DOWN)
async def an_error_that_is_a_string_in_a_200(call: Call) -> None:
    call.answer({"error": "Internal Server Error", "path": "/v1"})


@FAULTS.add(ODD)
async def a_page_in_a_200(call: Call) -> None:
    call.answer(b"<html><body>Sign in to the network</body></html>", 200, "text/html")


@FAULTS.add(ODD)
async def nothing_in_a_200(call: Call) -> None:
    call.answer(b"")


@FAULTS.add(DOWN)
async def no_content_204(call: Call) -> None:
    call.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@FAULTS.add(ODD)
async def some_other_json(call: Call) -> None:
    call.answer({"status": "ok", "version": "1.2.3"})


@FAULTS.add(ODD)
async def a_list_for_an_answer(call: Call) -> None:
    call.answer([])


@FAULTS.add(ODD)
async def empty_choices(call: Call) -> None:
    call.answer({**whole(call), "choices": [], "data": []})


@FAULTS.add(ODD)
async def choices_that_are_none(call: Call) -> None:
    call.answer({**whole(call), "choices": [None], "data": [None]})


@FAULTS.add(ODD)
async def choices_of_another_shape(call: Call) -> None:
    entry = {"index": 0, "content": "Answer", "vector": [1.0]}
    call.answer({**whole(call), "choices": [entry], "data": [entry]})


@FAULTS.add(ODD)
async def json_cut_short_behind_a_right_length(call: Call) -> None:
    call.answer(json.dumps(whole(call)).encode()[:60])


@FAULTS.add(ODD)
async def an_answer_compressed_although_nobody_asked(call: Call) -> None:
    kind = "text/event-stream" if streams(call) else "application/json"
    call.answer(gzip.compress(b'{"choices": []}' * 9), 200, kind, Content_Encoding="gzip")


@FAULTS.add(ODD, only="plain")
async def a_stream_nobody_asked_for(call: Call) -> None:
    call.stream(whole(call))


@FAULTS.add(ODD, only="streamed")
async def a_plain_answer_to_a_stream(call: Call) -> None:
    call.answer(whole(call))
