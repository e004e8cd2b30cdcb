"""Builds template.yaml for this machine, deploys it to an emulator of AWS, and has it run a job: `make deploy-local`.

The emulator is ministack on 127.0.0.1, which ends when this does; or whatever answers at ``--endpoint``.
docs/deploy.md says what it lacks; ``adapted`` is all that is done about it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import boto3
import yaml

ROOT = Path(__file__).parents[1]
STACK = "penstock"
START = 60.0
"""Seconds for the emulator to answer."""
PATIENCE = 90.0
"""Seconds for the job to end, cold functions included."""
SERVICES = "apigateway,cloudformation,dynamodb,events,iam,lambda,logs,s3,sqs,sts"
KEPT = ("HOME", "LANG", "PATH", "SSL_CERT_FILE", "TMPDIR", "UV_CACHE_DIR")
OWNER = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "SAM_CLI_TELEMETRY": "0",
    "SAM_CLI_POLL_DELAY": "0.3",
}
"""Who emulators take for their owner; with it nothing can reach an account of AWS's own."""


class Failure(Exception):
    """What a person must know."""


def arguments() -> argparse.Namespace:
    """What `make deploy-local` passes on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sam", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--python", required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--port", type=int, default=4566)
    parser.add_argument("--endpoint", default="")
    return parser.parse_args()


def say(text: str) -> None:
    """Tell what is being done."""
    print(f"penstock: {text}", flush=True)


def run(*command: str, **environment: str) -> None:
    """Run a command quietly; what it said is shown if it fails. Raises ``Failure``."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure(f"{done.stdout}\n`{shlex.join(command)}` failed: what it said stands above")


def build(asked: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Have SAM build the functions for this machine; the template that it wrote."""
    say(f"building the functions for {asked.architecture} and Python {asked.python}")
    run(
        *(str(asked.sam), "build", "--parallel", "--build-dir", str(asked.build)),
        *("--parameter-overrides", parameters(scratch, machine(asked))),
        ARCHITECTURE=asked.architecture,
        PYTHON_VERSION=asked.python,
        CONFIG_FILE=str(asked.config),
    )
    template: dict[str, Any] = yaml.safe_load((asked.build / "template.yaml").read_text(encoding="utf-8"))
    return template


def machine(asked: argparse.Namespace) -> dict[str, str]:
    """The stack's parameters that say where its functions run."""
    return {"Architecture": asked.architecture, "Runtime": f"python{asked.python}"}


def parameters(scratch: Path, values: Mapping[str, str]) -> str:
    """Parameters as SAM takes them out of a file: a command line, which holds secrets, is everybody's to read."""
    place = scratch / "parameters.yaml"
    place.write_text(yaml.safe_dump(dict(values)), encoding="utf-8")
    return f"file://{place}"


def adapted(template: dict[str, Any]) -> dict[str, Any]:
    """The template without what the emulator lacks."""
    resources = template["Resources"]
    # It streams no route and runs no adapter's layer: the other door answers those routes, whole.
    streamed = resources.pop("StreamApi")["Properties"]["Events"]
    for event in streamed.values():
        event["Properties"].pop("ResponseTransferMode", None)
        event["Properties"].pop("TimeoutInMillis", None)
    resources["HttpApi"]["Properties"]["Events"] |= streamed
    # It has no CloudWatch.
    del resources["Alarms"]
    # Where it is not AWS that answers, the store looks for its tables when it opens; on AWS no role may.
    looking = {"Effect": "Allow", "Action": ["dynamodb:DescribeTable"], "Resource": "*"}
    for resource in resources.values():
        if resource["Type"] == "AWS::IAM::Role":
            resource["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].append(looking)
    return template


def passed_on(template: Mapping[str, Any], caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's variables that the template gives to its functions, as parameters of the stack."""
    variables = template["Globals"]["Function"]["Environment"]["Variables"]
    return {
        value["Ref"]: caller[name]
        for name, value in variables.items()
        if isinstance(value, dict) and "Ref" in value and caller.get(name)
    }


def deploy(asked: argparse.Namespace, template: dict[str, Any], scratch: Path, values: Mapping[str, str]) -> str:
    """Deploy the built template; the address of its API."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    say(f"deploying to {endpoint}")
    local = asked.build / "local.yaml"
    local.write_text(yaml.safe_dump(adapted(template), sort_keys=False), encoding="utf-8")
    run(
        *(str(asked.sam), "deploy", "--config-file", str(ROOT / "samconfig.toml"), "--template-file", str(local)),
        *("--stack-name", STACK, "--no-confirm-changeset", "--no-fail-on-empty-changeset"),
        *("--parameter-overrides", parameters(scratch, values)),
    )
    (stack,) = boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    # Emulators answer for every API below their own address; the domain in the output is AWS's.
    return f"{endpoint}/_aws/execute-api/{urlsplit(outputs['BaseUrl']).netloc.partition('.')[0]}/live"


class Client:
    """A caller of the deployed API."""

    def __init__(self, base: str, key: str) -> None:
        self._base = base
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, path: str, body: Any = None, **headers: str) -> tuple[int, Mapping[str, str], Any]:
        """Status, headers and JSON of an answer; with a body it is a POST. Raises ``Failure`` if there is none."""
        content = None if body is None else json.dumps(body).encode()
        request = Request(self._base + path, content, self._headers | headers)
        try:
            with urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.headers, json.load(answer)
        except HTTPError as error:
            raise Failure(f"{path} answered {error.code}: {error.read().decode(errors='replace')}") from None
        except OSError as error:
            raise Failure(f"{path} did not answer: {error}") from None

    def model(self) -> str:
        """The first model that there is."""
        models = self.call("/v1/models")[2]["data"]
        if not models:
            raise Failure("the deployed gateway has no model: its providers cannot be reached, or none is configured")
        return str(models[0]["id"])

    def job(self, model: str) -> tuple[str, Any]:
        """Submit a chat as a job and wait for its answer: the job's address, and what came."""
        chat = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
        _, headers, _ = self.call("/v1/chat/completions", chat, Prefer="respond-async")
        address, deadline = headers["location"], time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            status, headers, answer = self.call(address)
            if status == 200:
                return address, answer
            time.sleep(float(headers["retry-after"]))
        raise Failure(f"the job {address} had not ended after {PATIENCE:g} s")


@contextmanager
def emulator(port: int, scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """ministack on 127.0.0.1, with every process that it starts, until the block ends. Raises ``Failure``."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            where = f"ENDPOINT=http://127.0.0.1:{port}"
            raise Failure(f"port {port} is taken: name another (PORT=), or deploy to what is there ({where})") from None
    place = {"BIND_HOST": "127.0.0.1", "MINISTACK_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    own = {"AUTH": "true", "SERVICES": SERVICES, "LAMBDA_EXECUTOR": "local", "TMPDIR": str(scratch)}
    log = scratch / "emulator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            cwd=scratch,
            env=os.environ | place | own,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}", process, log)
        yield process
    finally:
        end(process)


def wait_for(endpoint: str, process: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
    """Block until an emulator answers, ministack as well as LocalStack. Raises ``Failure``."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            urlopen(f"{endpoint}/_localstack/health", timeout=5).close()
            return
        except HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    said = f"; its last words:\n{log.read_text(errors='replace')[-2000:]}" if log else ""
    raise Failure(f"no emulator of AWS answers at {endpoint}{said}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End the emulator and its functions: they are a group of processes."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def tell(base: str, key: str, model: str, job: str, answer: Any) -> None:
    """What a person needs to go on."""
    said = answer["choices"][0]["message"]["content"]
    chat = shlex.quote(json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]}))
    post = '-H "Authorization: Bearer $PENSTOCK_API_KEY" -H "Content-Type: application/json"'
    say(f"a job went through API Gateway, SQS and Lambda, and came back as {said!r}. Try it:")
    print(f"""
  export URL={base} PENSTOCK_API_KEY={key}
  curl -s $URL/v1/models -H "Authorization: Bearer $PENSTOCK_API_KEY"
  curl -s $URL/v1/chat/completions {post} -d {chat}
  curl -si $URL/v1/chat/completions -H "Prefer: respond-async" {post} -d {chat}
  curl -si $URL{job} -H "Authorization: Bearer $PENSTOCK_API_KEY"
""")


def work(asked: argparse.Namespace, caller: Mapping[str, str], scratch: Path) -> None:
    """Everything that is asked for; with an emulator of its own it stays until it is stopped."""
    if asked.config.name != "config.yaml" and not asked.config.is_file():
        raise Failure(f"there is no file {asked.config}: correct CONFIG")
    if asked.endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint = asked.endpoint.rstrip("/")
        wait_for(endpoint)
        use(asked, caller, scratch)
        return
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{asked.port}"
    with emulator(asked.port, scratch) as process:
        use(asked, caller, scratch)
        say(f"the emulator's log is {scratch}/emulator.log; Ctrl-C ends it, and everything in it is gone")
        process.wait()
        raise Failure("the emulator has ended by itself")


def use(asked: argparse.Namespace, caller: Mapping[str, str], scratch: Path) -> None:
    """Build, deploy, and have a job run, at the emulator that is there."""
    template = build(asked, scratch)
    key = secrets.token_urlsafe(24)
    base = deploy(asked, template, scratch, passed_on(template, caller) | machine(asked) | {"ApiKeys": key})
    client = Client(base, key)
    model = client.model()
    tell(base, key, model, *client.job(model))


def main() -> int:
    """0 if all went well or a person stopped it, 1 with a line if not."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    asked = arguments()
    asked.build, asked.config, asked.sam = (Path(path).absolute() for path in (asked.build, asked.config, asked.sam))
    caller = dict(os.environ)
    os.environ.clear()
    os.environ.update({name: caller[name] for name in KEPT if name in caller} | OWNER)
    try:
        with tempfile.TemporaryDirectory(prefix="penstock-local-") as scratch:
            work(asked, caller, Path(scratch))
    except Failure as failure:
        print(f"penstock: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
