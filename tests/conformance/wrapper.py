#!/usr/bin/env python3
"""Runs `kapell` as the client that the official MCP conformance suite tests.

For each scenario, the suite starts a server and this program, with the server's address as its last argument. The
program writes the agents file and the plans that a user would write for the scenario to a directory of its own and runs
`kapell` on them. Its exit code is the first one of a `kapell` that is not 0.

From the suite:  MCP_CONFORMANCE_SCENARIO, MCP_CONFORMANCE_PROTOCOL_VERSION, and MCP_CONFORMANCE_CONTEXT (JSON)
From `run`:      KAPELL            the program
                 KAPELL_PROTOCOL   `era` (the era of the scenario's version) or a value of the key `protocol`
                 KAPELL_KEEP       optional: a directory in which the files of each scenario are kept
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

KAPELL = os.environ.get("KAPELL", "kapell")
SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
VERSION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")

AGENT = "suite"
SECRET_VARIABLE = "SUITE_CLIENT_SECRET"
# The client ID that the suite expects where its server supports client ID metadata documents.
CLIENT_METADATA = "https://conformance-test.local/client-metadata.json"
# `run` lets a scenario take two minutes.
LOGIN_SECONDS = 30
RUN_SECONDS = 60


def protocol():
    """Returns the value of the key `protocol`. Versions since 2026 are modern, those before are legacy."""
    wanted = os.environ.get("KAPELL_PROTOCOL", "era")
    if wanted != "era":
        return wanted
    return "modern" if VERSION >= "2026" else "legacy"


def visit(address):
    """Opens an address as a browser would. The suite's authorization servers redirect at once to kapell."""
    try:
        with urllib.request.urlopen(address, timeout=LOGIN_SECONDS) as response:
            print(f"visited {address}: {response.status}", file=sys.stderr)
    except OSError as error:
        print(f"visited {address}: {error}", file=sys.stderr)


class Client:
    """A directory with an agents file, in which `kapell` runs."""

    def __init__(self, url, directory):
        self.directory = directory
        self.exit_code = 0
        self.plans = 0
        self.environment = {**os.environ, "XDG_STATE_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
        # No scenario requests the model. With a model, kapell declares sampling, which the suite looks at.
        sections = [
            '[llm]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "none"\n',
            f"[agents.{AGENT}]\nurl = {json.dumps(url)}\nprotocol = {json.dumps(protocol())}\n"
            'required = true\nstartup_timeout = "60s"\ntool_timeout = "60s"\n',
        ]
        keys = self.oauth_keys()
        if keys:
            lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            sections.append(f"[agents.{AGENT}.oauth]\n{lines}")
        (directory / "agents.toml").write_text("\n".join(sections))

    def oauth_keys(self):
        """Returns the `oauth` keys of the agent: what the scenario says that the client was registered with."""
        keys = {}
        if SCENARIO == "auth/basic-cimd":
            keys["client_id"] = CLIENT_METADATA
        if "client_id" in CONTEXT:
            keys["client_id"] = CONTEXT["client_id"]
        if "client_secret" in CONTEXT:
            keys["client_secret_env_var"] = SECRET_VARIABLE
            self.environment[SECRET_VARIABLE] = CONTEXT["client_secret"]
        if "private_key_pem" in CONTEXT:
            (self.directory / "key.pem").write_text(CONTEXT["private_key_pem"])
            keys["private_key_file"] = "key.pem"
        if SCENARIO.startswith("auth/client-credentials"):
            keys["grant"] = "client_credentials"
        return keys

    def start(self, *arguments):
        """Starts `kapell`. Returns its process."""
        print(f"$ kapell {' '.join(arguments)}", file=sys.stderr)
        return subprocess.Popen(
            [KAPELL, *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process):
        """Waits for the end of `process`, prints its output, and returns its standard output."""
        output, errors = process.communicate()
        print(f"{output}{errors}[exit code {process.returncode}]", file=sys.stderr)
        self.exit_code = self.exit_code or process.returncode
        return output

    def kapell(self, *arguments):
        """Runs `kapell` and returns its standard output."""
        return self.finish(self.start(*arguments))

    def test(self):
        """Connects to the agent and lists its tools."""
        self.kapell("agents", "test", "--agents", "agents.toml")

    def tools(self):
        """Returns the tools that `kapell` offers, by name."""
        listed = json.loads(self.kapell("agents", "tools", "--agents", "agents.toml", "--output", "json"))
        return {tool["name"]: tool for agent in listed for tool in agent.get("tools", [])}

    def write_plan(self, *calls):
        """Writes a plan with one task for each call and returns its name."""
        self.plans += 1
        tasks = [
            {"id": f"call{number}", "agent": AGENT, "tool": name, "with": arguments}
            for number, (name, arguments) in enumerate(calls)
        ]
        # JSON is YAML.
        plan = f"plan{self.plans}.yaml"
        (self.directory / plan).write_text(json.dumps({"name": "conformance", "tasks": tasks}, indent=1))
        return plan

    def call(self, *calls, accept=None):
        """Runs a plan with these calls. `accept` is the answer to each question of the server."""
        arguments = ["run", self.write_plan(*calls), "--agents", "agents.toml", "--output", "json", "--no-input"]
        if accept is not None:
            (self.directory / "answers.yaml").write_text(json.dumps({"answers": [{"agent": AGENT, "accept": accept}]}))
            arguments += ["--answers", "answers.yaml"]
        self.kapell(*arguments)

    def log_in(self):
        """Logs in to the agent: visits the address that `kapell agents login` prints."""
        process = self.start("agents", "login", AGENT, "--no-browser", "--agents", "agents.toml")
        # A login that is never completed must not wait for a person.
        timer = threading.Timer(LOGIN_SECONDS, process.kill)
        timer.start()
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            address = re.search(r"https?://\S+", line)
            if address:
                visit(address.group())
                break
        self.finish(process)
        timer.cancel()

    def run_with_logins(self, *calls):
        """Runs a plan with these calls in the background and logs in again whenever the run asks for it."""
        run = self.kapell("run", self.write_plan(*calls), "--agents", "agents.toml", "--detach").split()[0]
        visited = set()
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            shown = json.loads(self.kapell("runs", "show", run, "--output", "json"))
            if shown["status"] not in ("running", "waiting"):
                self.exit_code = self.exit_code or int(shown["status"] != "succeeded")
                return
            for question in json.loads(self.kapell("questions", run, "--output", "json")):
                address = (question["form"].get("url") or {}).get("url")
                if address and address not in visited:
                    visited.add(address)
                    visit(address)
            time.sleep(0.2)
        self.kapell("cancel", run)
        self.exit_code = 1


def connect(client):
    client.test()


def add_numbers(client):
    client.call(("add_numbers", {"a": 2, "b": 3}))


def elicitation_defaults(client):
    client.call(("test_client_elicitation_defaults", {}), accept=True)


def sse_retry(client):
    client.call(("test_reconnection", {}))


def request_state(client):
    names = ["test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state", "test_mrtr_no_result_type"]
    client.call(*[(name, {}) for name in names], accept={"confirmed": True})


def standard_headers(client):
    client.call(("test_headers", {}), ("my-hyphenated-tool", {}))


def custom_headers(client):
    client.call(*[(call["name"], call["arguments"]) for call in CONTEXT["toolCalls"]])


def every_tool(client):
    """Calls each tool that `kapell` offers. The suite checks that the tools it must not use are not among them."""
    for name, tool in client.tools().items():
        properties = tool["input_schema"].get("properties", {})
        client.call((name, {key: "us-west1" for key in properties}))


def schema_echo(client):
    observed = client.tools()["json_schema_2020_12_tool"]["input_schema"]
    client.call(("json_schema_echo", {"schema": observed}))


def call_without_login(client):
    client.call(("test-tool", {}))


def authorization(client):
    client.log_in()
    client.run_with_logins(("test-tool", {}))


SCENARIOS = {
    "initialize": connect,
    "request-metadata": connect,
    "json-schema-ref-no-deref": connect,
    "tools_call": add_numbers,
    "elicitation-sep1034-client-defaults": elicitation_defaults,
    "sse-retry": sse_retry,
    "sep-2322-client-request-state": request_state,
    "http-standard-headers": standard_headers,
    "http-custom-headers": custom_headers,
    "http-invalid-tool-headers": every_tool,
    "json-schema-2020-12-preservation": schema_echo,
    "auth/client-credentials-basic": call_without_login,
    "auth/client-credentials-jwt": call_without_login,
    # kapell has neither of these grants.
    "auth/enterprise-managed-authorization": call_without_login,
    "auth/wif-jwt-bearer": call_without_login,
}


def run(directory):
    """Runs the scenario in `directory` and returns the exit code."""
    client = Client(sys.argv[-1], directory)
    default = authorization if SCENARIO.startswith("auth/") else connect
    SCENARIOS.get(SCENARIO, default)(client)
    return client.exit_code


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    kept = os.environ.get("KAPELL_KEEP")
    if kept:
        directory = pathlib.Path(kept) / f"{SCENARIO.replace('/', '-')}@{VERSION}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return run(directory)
    with tempfile.TemporaryDirectory(prefix="kapell-conformance-") as directory:
        return run(pathlib.Path(directory))


if __name__ == "__main__":
    sys.exit(main())
