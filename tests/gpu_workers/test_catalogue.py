"""models.toml is read as a whole: what a row says becomes SGLang's flags, and what it says wrongly is told."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from catalogue import MODELS, LaunchError, check_weights, command, find, read
from tests.gpu_workers.launched import LAUNCH

BIG = """
[big]
model = "someone/big"
revision = "abc"
gpu = "H100"
gpu_count = 4
tensor_parallel = 2
context_length = 4096
memory_fraction = 0.8
quantization = "fp8"
tool_parser = "qwen25"
reasoning_parser = "qwen3"
max_running = 7
max_queued = 9
flags = ["--sleep-on-idle"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_field_becomes_the_flag_of_sglang(tmp_path: Path) -> None:
    words = command(find("big", written(tmp_path, BIG)), "127.0.0.1", 30000, ["--log-level", "debug"])
    assert words[1:3] == ["-m", "sglang.launch_server"]
    assert shlex.join(words[3:]) == (
        "--model-path someone/big --revision abc --served-model-name big --host 127.0.0.1 --port 30000 "
        "--tensor-parallel-size 2 --context-length 4096 --mem-fraction-static 0.8 --quantization fp8 "
        "--tool-call-parser qwen25 --reasoning-parser qwen3 --max-running-requests 7 --max-queued-requests 9 "
        "--enable-cache-report --enable-metrics --sleep-on-idle --log-level debug"
    )


def test_what_a_row_leaves_out_is_left_to_sglang(tmp_path: Path) -> None:
    words = command(find("small", written(tmp_path, '[small]\nmodel = "a/b"\nkind = "embedding"')), "::1", 1)
    assert "--is-embedding" in words
    assert not {"--revision", "--context-length", "--mem-fraction-static", "--quantization"} & set(words)


@pytest.mark.parametrize("name", read())
def test_every_model_of_the_list_has_production_s_flags(name: str) -> None:
    ran = subprocess.run(
        [sys.executable, LAUNCH, name, "--print-command"], capture_output=True, text=True, check=True, timeout=30
    )
    words = set(shlex.split(ran.stdout))
    assert {"--max-running-requests", "--max-queued-requests", "--enable-cache-report", "--enable-metrics"} <= words
    assert {"--served-model-name", name} <= words


@pytest.mark.parametrize("name", [name for name, model in read().items() if not model.engine])
def test_every_model_with_weights_to_fetch_pins_them(name: str) -> None:
    assert re.fullmatch("[0-9a-f]{40}", find(name).revision)


@pytest.mark.parametrize("name", [name for name, model in read().items() if model.gpu])
def test_the_price_of_every_gpu_is_written_above_its_row(name: str) -> None:
    above = MODELS.read_text(encoding="utf-8").split(f"[{name}]")[0].splitlines()[-1]
    assert re.search(r"\$0\.\d+/s, \$\d+\.\d\d/h", above), above


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[a]\nmodle = "x"', r"\[a\] has an unknown field 'modle'. Did you mean 'model'\?"),
        ('[a]\nmodel = "x"\nzebra = 1', r"\[a\] has an unknown field 'zebra'\.$"),
        ("a = 1", r"\[a\] is no table"),
        ("[a]", r"\[a\] needs `model`"),
        ("[a", "cannot be read"),
        ('[a]\nmodel = "x"\ngpu_count = "2"', r"\[a\] gpu_count is '2', and must be of type int"),
        ('[a]\nmodel = "x"\ngpu_count = true', r"\[a\] gpu_count is True"),
        ('[a]\nmodel = "x"\ngpu_count = 0', r"\[a\] gpu_count must be at least 1"),
        ('[a]\nmodel = "x"\ntensor_parallel = 2', r"\[a\] splits over 2 GPUs, and gpu_count is 1"),
        ('[a]\nmodel = "x"\nmemory_fraction = 1', r"\[a\] memory_fraction is 1, and must be below 1"),
        ('[a]\nmodel = "x"\nkind = "image"', r"\[a\] kind is 'image', and must be one of chat, embedding"),
        ('[a]\nmodel = "x"\nflags = "--x"', r"\[a\] flags is '--x', and must be a list of strings"),
        ('[a]\nmodel = "x"\nmin_containers = 3\nmax_containers = 1', r"\[a\] min_containers is 3, and must be 0 to 1"),
    ],
)
def test_a_wrong_row_is_told_with_its_file_and_field(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(LaunchError, match=complaint) as told:
        read(path)
    assert str(path) in str(told.value)


def test_an_unknown_name_lists_what_there_is_when_nothing_is_near(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"has no model 'zzz'. It has big"):
        find("zzz", written(tmp_path, BIG))


@pytest.mark.parametrize("flag", ["--api-key", "--admin-api-key=x"])
def test_no_flag_of_a_row_may_hold_a_key(tmp_path: Path, flag: str) -> None:
    model = find("a", written(tmp_path, f'[a]\nmodel = "x"\nflags = ["{flag}"]'))
    with pytest.raises(LaunchError, match="would be seen in the list of processes"):
        command(model, "127.0.0.1", 1)


def test_a_directory_of_weights_that_is_not_there_is_told_before_the_start(tmp_path: Path) -> None:
    there, away = tmp_path / "there", tmp_path / "away"
    there.mkdir()
    models = written(tmp_path, f'[there]\nmodel = "{there}"\n[away]\nmodel = "{away}"')
    check_weights(find("there", models), {})
    with pytest.raises(LaunchError, match=f"there is no directory {away}"):
        check_weights(find("away", models), {})


def test_weights_that_may_not_be_fetched_must_be_there(tmp_path: Path) -> None:
    model = find("big", written(tmp_path, BIG))
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    check_weights(model, {"HF_HOME": str(tmp_path)})
    with pytest.raises(LaunchError, match="HF_HUB_OFFLINE forbids a download"):
        check_weights(model, offline)
    (tmp_path / "hub" / "models--someone--big").mkdir(parents=True)
    check_weights(model, offline)
