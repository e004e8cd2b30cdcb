"""Bodies as parsers' test suites know them: what is no JSON in every way there is, and JSON that is odd."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

NO_NUMBERS = [
    *("-", "+", "+1", "01", "-01", "012", "1.", "-2.", ".5", "-.5", "1.e1", "2.e3", "0.e1", "1e", "1E", "1e+"),
    *("1E-", "0e", "0e+", "0.3e", "1.5e", "e5", "1ea", "1e5.5", "1e1e1", "-1.0.", "0x1F"),
    *("0xg", "0b1", "0o7", "1_000", "1,000", "1a", "--1", "++1", "1+2", "0.1.2", "-foo", "NaN", "nan", "-NaN"),
    *("Infinity", "-Infinity", "+Infinity", "inf", "-inf", "1f", "1L"),
    *("1n", "１", "²", "½", "∞", "- 1", "1 000", "1 2", "0 x", "1.\u0665"),
]
NO_WORDS = [
    *("True", "TRUE", "tru", "truee", "False", "fals", "falsee", "Null", "NULL", "nul", "nulll", "None", "nil"),
    *("undefined", "yes", "no", "on", "off", "void", "new", "Date()"),
    *("*", "&", "!", "?", "@", "a", ";", ",", ":", ".", "/", "\\", "|", "~", "$", "%", "^", "=", "<", ">", "("),
    *(")", "()", "function(){}", "<null/>"),
]
NO_TEXTS = [
    *('"', '"a', "'a'", "`a`", "“a”", "a b", '"a"b"', '"a""b"', '"a" + "b"', '"""a"""', '"\\', '"\\"', '"\\\\\\"'),
    *('"\\a"', '"\\0"', '"\\x41"', '"\\v"', '"\\\'"', '"\\ "', '"\\\n"', '"\\\u00e9"', '"\\U0041"', '"\\u{41}"'),
    *('"\\u"', '"\\u1"', '"\\u12"', '"\\u123"', '"\\u123g"', '"\\u00 1"', '"\\u+123"', '"\\u-123"', '"\\u０041"'),
    *(
        '"\\ud800"',
        '"\\udfff"',
        '"\\ud800\\u"',
        '"\\ud800\\u1"',
        '"\\ud800\\u1x"',
        '"\\ud800\\ud800"',
        '"\\udc00\\ud800"',
    ),
    *('"\\ud800a"', '"a\\udc00"', '"\\ud800\\n"', '"\\ud83d\\u0041"'),
    *(f'"a{chr(code)}b"' for code in range(32)),
    *(f'"\\u{code:04x}"' for code in range(32) if code not in (8, 9, 10, 12, 13)),
]
NO_UTF_8 = [
    *(
        b"\xff",
        b"\xfe",
        b"\x80",
        b"\xbf",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
    ),
    *(
        b"\xe0\x9f\xbf",
        b"\xf0\x80\x80\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\xbd\xed\xb8\x80",
        b"\xf4\x90\x80\x80",
    ),
    *(
        b"\xf5\x80\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xe9",
        b"caf\xe9",
        b"\xc3\x28",
        b"\xff\xfe",
    ),
]
NO_CONTAINERS = [
    *(
        "[",
        "]",
        "{",
        "}",
        "[1",
        "[1,",
        "[,1]",
        "[1,,2]",
        "[1 2]",
        "[1,]",
        "[,]",
        "[:1]",
        '["a":1]',
        "[1;2]",
        "[1]]",
        "[[]",
    ),
    *(
        "[}",
        "{]",
        '{"a"}',
        '{"a":}',
        '{"a" 1}',
        '{"a":1,}',
        "{,}",
        '{"a":1 "b":2}',
        "{'a':1}",
        "{a:1}",
        "{1:1}",
        "{null:1}",
    ),
    *(
        '{"a"::1}',
        '{"a":1,,}',
        '{"a":1}}',
        '{"a":[}',
        '{"a"=1}',
        '{"a"=>1}',
        "{[]:1}",
        '{"a":1:2}',
        "(1)",
        "<a/>",
        "[1]#",
    ),
    *(
        "[1] // a",
        "/*a*/1",
        "1/*a*/",
        "#a\n1",
        "[...]",
        "[1..2]",
        "{...{}}",
        "[\v1]",
        "[\f1]",
        "\u00a01",
        "\u20281",
        "\u30001",
    ),
    *("\ufeff1", "[1\x00]", "[\x001]", "{\x00}", "1\x1a", "[\u200b]", "\u2060[]", "[\x1f1]", "[\x7f1]"),
]
AROUND = [
    *(
        b"}",
        b"]",
        b",",
        b":",
        b"x",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'""',
        b"\0",
        b"\x1a",
        b"//",
        b"#",
        b"/**/",
        b";",
        b"\\",
    ),
    *(b"\x0b", b"\x0c", b"\xa0", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xff", b"\xef\xbb\xbf", b")]}',", b"<!--", b"---"),
]
NO_OBJECTS = [b"[]", b"[{}]", b"null", b"true", b"false", b"0", b"-1.5e3", b'"a"', b"[[[]]]", b'[1,"a",null]', b'"{}"']
ODD_VALUES = [
    *(
        "0",
        "-0",
        "-0.0",
        "0e0",
        "1e0",
        "1E+2",
        "1.0",
        "1e2",
        "0.1",
        "-1",
        "1e-400",
        "1e308",
        "1e309",
        "-1e999",
        "1e99999",
    ),
    *("123123e100000", "2147483648", "9007199254740993", "9223372036854775807", "9223372036854775808"),
    *("18446744073709551616", "-9223372036854775809", "1" + "0" * 40, "-1" + "0" * 400, "1" * 5000, "0." + "1" * 5000),
    *(
        "null",
        "true",
        "false",
        '""',
        '" "',
        '"a"',
        '"0"',
        '"\\n"',
        '"\\u0009"',
        '"\\"\\\\\\/"',
        '"\\u007f"',
        '"\\u00e9"',
    ),
    *(
        '"\\ufeff"',
        '"\\uffff"',
        '"\\ufdd0"',
        '"\\ud83d\\ude00"',
        '"\\udbff\\udfff"',
        '"\u2028\u2029"',
        '"\U0001f600"',
        '"\u202e"',
    ),
    *(
        '"../../etc/passwd"',
        '"%00%0a"',
        '"\' OR 1=1 --"',
        '"<script>"',
        '"${x}{{x}}%s"',
        '"http://[::1"',
        '"' + "x" * 70_000 + '"',
    ),
    *(
        "[]",
        "[[]]",
        "[null]",
        "{}",
        '{"":{}}',
        '{"a":1,"a":2}',
        "[0,0]",
        '[""]',
        '["a","a"]',
        '{"$ref":"#"}',
        '{"__proto__":{}}',
    ),
    *("[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, "[" + "1," * 5000 + "1]", '{"' + "k" * 5000 + '":1}'),
    *('{"\\u00e9":1}', '{"\U0001f600":1}', '{" ":1}', '{".":1,"$":1,"a.b":1}', '[1,"a",null,true,{}]'),
]
"""JSON as any other: taken or refused, as the route likes."""


def wrong(body: dict[str, Any]) -> Iterator[bytes]:
    """A good body made into what is not strictly JSON, or no object, in every way."""
    good = json.dumps(body).encode()
    comma = b"," if body else b""
    for token in (*NO_NUMBERS, *NO_WORDS, *NO_TEXTS, *NO_CONTAINERS):
        yield good[:-1] + comma + b'"odd":' + token.encode() + b"}"
    for piece in NO_UTF_8:
        yield good[:-1] + comma + b'"odd":"' + piece + b'"}'
        yield good[:-1] + comma + b'"' + piece + b'":1}'
    for piece in AROUND:
        yield good + piece
        yield piece + good
    yield from (good[:end] for end in range(1, len(good)))
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        yield good.decode().encode(encoding)
    yield (good[:-1].decode() + ' "\u00e9": "}').encode("utf-7")
    yield from (gzip.compress(good), zlib.compress(good), b"\x80\x04" + good, good.hex().encode(), b"'" + good + b"'")
    yield b"{'" + good[1:].replace(b'"', b"'")
    yield from (*NO_OBJECTS, b"[" + good + b"]", json.dumps(good.decode()).encode(), good + b"\n" + good, b"\0" * 100)
    for depth in (201, 1000, 100_000):
        yield good[:-1] + comma + b'"odd":' + b"[" * depth + b"]" * depth + b"}"
        yield good[:-1] + comma + b'"odd":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"
        yield from (b"[" * depth, b'{"a":' * depth, b"[" * depth + good)


def odd(body: dict[str, Any], fields: list[str]) -> Iterator[bytes]:
    """A good body with each odd value in the place of each of the fields of its route, and in one that it lacks."""
    for field in (*fields, "odd"):
        rest = {name: value for name, value in body.items() if name != field}
        held = json.dumps(rest)[:-1] + (", " if rest else "")
        yield from (f'{held}"{field}":{value}}}'.encode() for value in ODD_VALUES)
    good = json.dumps(body).encode()
    yield from (b" \t\r\n" + good + b"\n \t\r", good.replace(b" ", b"\r\n\t "), good[:-1] + b" " * 50_000 + b"}")
    yield b"{" + good[1:-1] + b", " * bool(body) + good[1:]
    yield b"{" + b",".join(b'"k%d":%d' % (number, number) for number in range(5000)) + b"}"
