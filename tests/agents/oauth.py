"""An MCP server that requires a login, and its authorization server, at one loopback port.

    oauth.py [OPTION...]        prints its address and that for tests, then serves until it is killed

The two addresses are the same, unless an option makes the first one hard to reach.

Options change what a well-behaved pair does:
    slow-refresh     a renewal waits for `POST /release`
    lost-refresh     a renewal replaces the refresh token, and is then never answered
    denied           the person declines
    wrong-issuer     the redirect names another issuer
    expired-code     the authorization server does not accept its own code
    other-resource   the metadata is that of another server
    no-registration  clients must be registered in advance
    no-oauth         the server requires a token, but publishes nothing about OAuth
    open-handshake   the handshake needs no token, and the list names the scope `basic`
    never-enough     `write` is reported as missing whatever the token has
    tls              both use the certificate of `tls/server.pem`
    identified       the MCP server requires a client certificate
    other-origin     the authorization server has a port of its own
    behind-proxy     both are reached through a proxy only, which is the address for tests

`GET /log` returns the requests so far. `POST /expire` invalidates all access tokens, `POST /revoke` all tokens.
"""

import base64
import hashlib
import json
import os
import secrets
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPTIONS = set(sys.argv[1:])
LOCK = threading.Lock()
RELEASED = threading.Event()
CODES, ACCESS, REFRESH = {}, {}, {}
LOG = {"registrations": 0, "grants": [], "scopes": [], "calls": [], "authenticated": [], "refused": 0, "tokens_seen": 0,
       "identified": []}


def issue(client, scope):
    """Returns a new pair of tokens."""
    access, refresh = "access-" + secrets.token_hex(8), "refresh-" + secrets.token_hex(8)
    ACCESS[access], REFRESH[refresh] = scope, (client, scope)
    return {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": 3600,
            "scope": scope}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def parse_request(self):
        """A request to a proxy has a whole address."""
        parsed = super().parse_request()
        if parsed:
            self.path = self.path.removeprefix("http://oauth.test")
            if isinstance(self.connection, ssl.SSLSocket) and self.connection.getpeercert():
                with LOCK:
                    LOG["identified"].append(self.path)
        return parsed

    def reply(self, status, body=b"", headers=()):
        """Sends a response; a body that is not bytes becomes JSON."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def challenge(self, status, **parameters):
        if "no-oauth" not in OPTIONS:
            parameters["resource_metadata"] = f"{ADDRESS}/.well-known/oauth-protected-resource/mcp"
        text = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
        self.reply(status, {}, [("WWW-Authenticate", f"Bearer {text}".strip())])

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path == "/log":
            with LOCK:
                return self.reply(200, LOG)
        if url.path == "/mcp":
            return self.reply(405)
        if "no-oauth" in OPTIONS:
            return self.reply(404)
        if url.path == "/.well-known/oauth-protected-resource/mcp":
            resource = "https://other.test/mcp" if "other-resource" in OPTIONS else f"{ADDRESS}/mcp"
            return self.reply(200, {"resource": resource, "authorization_servers": [ISSUER]})
        if url.path == "/.well-known/oauth-authorization-server":
            metadata = {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "registration_endpoint": f"{ISSUER}/register",
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "private_key_jwt"],
                "authorization_response_iss_parameter_supported": True,
            }
            if "no-registration" in OPTIONS:
                del metadata["registration_endpoint"]
            return self.reply(200, metadata)
        if url.path == "/authorize":
            return self.authorize(query)
        return self.reply(404)

    def authorize(self, query):
        """The login page, on which the person logs in at once."""
        redirect = query["redirect_uri"]
        if query.get("resource") != f"{ADDRESS}/mcp" or query.get("code_challenge_method") != "S256":
            return self.reply(400, {"error": "invalid_request"})
        answer = {"state": query["state"], "iss": ISSUER}
        if "wrong-issuer" in OPTIONS:
            answer["iss"] = "https://other.test"
        if "denied" in OPTIONS:
            answer |= {"error": "access_denied", "error_description": "not today"}
        else:
            answer["code"] = secrets.token_hex(8)
            with LOCK:
                LOG["scopes"].append(query.get("scope", ""))
                CODES[answer["code"]] = (query["client_id"], query["code_challenge"], query.get("scope", ""))
        return self.reply(302, b"", [("Location", f"{redirect}?{urllib.parse.urlencode(answer)}")])

    def do_POST(self):
        body = self.body()
        if self.path == "/mcp":
            return self.mcp(body)
        if self.path == "/expire":
            ACCESS.clear()
            return self.reply(200, {})
        if self.path == "/revoke":
            ACCESS.clear()
            REFRESH.clear()
            return self.reply(200, {})
        if self.path == "/release":
            RELEASED.set()
            return self.reply(200, {})
        if self.path == "/register" and "no-oauth" not in OPTIONS:
            with LOCK:
                LOG["registrations"] += 1
            request = json.loads(body)
            return self.reply(201, {"client_id": "registered-" + secrets.token_hex(4),
                                    "redirect_uris": request["redirect_uris"]})
        if self.path == "/token":
            return self.token(dict(urllib.parse.parse_qsl(body.decode())))
        return self.reply(404)

    def token(self, form):
        grant = form["grant_type"]
        with LOCK:
            LOG["grants"].append(grant)
        if form.get("resource") != f"{ADDRESS}/mcp":
            return self.reply(400, {"error": "invalid_target"})
        if grant == "authorization_code":
            client, challenge, scope = CODES.pop(form["code"], (None, None, None))
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if "expired-code" in OPTIONS or base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != challenge:
                return self.reply(400, {"error": "invalid_grant"})
            return self.reply(200, issue(client, scope))
        if grant == "refresh_token":
            if "slow-refresh" in OPTIONS:
                RELEASED.wait(60)
            with LOCK:
                client, scope = REFRESH.pop(form["refresh_token"], (None, None))
                if client is None:
                    return self.reply(400, {"error": "invalid_grant"})
                tokens = issue(client, scope)
            if "lost-refresh" in OPTIONS:
                RELEASED.wait(60)
            return self.reply(200, tokens)
        if grant == "client_credentials":
            method = form.get("client_secret")
            if "client_assertion" in form:
                header, claims = (json.loads(base64.urlsafe_b64decode(part + "=="))
                                  for part in form["client_assertion"].split(".")[:2])
                is_valid = claims["iss"] == claims["sub"] == "service" and claims["aud"] == ISSUER
                method = header["alg"] if is_valid else None
            with LOCK:
                LOG["authenticated"].append(method)
            if method not in ("ES256", "made-up-secret"):
                return self.reply(401, {"error": "invalid_client"})
            tokens = issue("service", form.get("scope", ""))
            del tokens["refresh_token"]
            return self.reply(200, tokens)
        return self.reply(400, {"error": "unsupported_grant_type"})

    def mcp(self, body):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        scope = ACCESS.get(token)
        with LOCK:
            LOG["tokens_seen"] += bool(token)
            LOG["refused"] += scope is None
        message = json.loads(body)
        method = message.get("method")
        is_open = "open-handshake" in OPTIONS and method in ("initialize", "notifications/initialized")
        if scope is None and not is_open:
            parameters = {"error": "invalid_token"} if token else {}
            if "open-handshake" in OPTIONS:
                parameters["scope"] = "basic"
            return self.challenge(401, **parameters)
        if "id" not in message:
            return self.reply(202)
        result = None
        if method == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                      "serverInfo": {"name": "protected", "version": "1"}}
        elif method == "tools/list":
            schema = {"type": "object", "properties": {"text": {"type": "string"}}}
            result = {"tools": [{"name": name, "inputSchema": schema} for name in ("echo", "write", "whoami")]}
        elif method == "tools/call":
            name = message["params"]["name"]
            if name == "write" and ("write" not in scope.split() or "never-enough" in OPTIONS):
                return self.challenge(403, error="insufficient_scope", scope="write")
            with LOCK:
                LOG["calls"].append(name)
            text = f"your token is {token}" if name == "whoami" else message["params"]["arguments"].get("text", "")
            result = {"content": [{"type": "text", "text": text}]}
        if result is None:
            error = {"code": -32601, "message": "unknown method"}
            return self.reply(200, {"jsonrpc": "2.0", "id": message["id"], "error": error})
        return self.reply(200, {"jsonrpc": "2.0", "id": message["id"], "result": result})


def listen(verify_mode=None):
    """Returns a new server at a loopback port, and its address. A verify mode makes it one over TLS."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if verify_mode is None:
        return server, f"http://127.0.0.1:{server.server_port}"
    folder = os.path.join(os.path.dirname(__file__), "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "server.pem"))
    context.load_verify_locations(os.path.join(folder, "client.pem"))
    context.verify_mode = verify_mode
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server, f"https://127.0.0.1:{server.server_port}"


SERVER, FOR_TESTS = listen()
SERVERS = [SERVER]
ADDRESS = "http://oauth.test" if "behind-proxy" in OPTIONS else FOR_TESTS
if "tls" in OPTIONS:
    SERVER, ADDRESS = listen(ssl.CERT_REQUIRED if "identified" in OPTIONS else ssl.CERT_NONE)
    SERVERS.append(SERVER)
ISSUER = ADDRESS
if "other-origin" in OPTIONS:
    SERVER, ISSUER = listen(ssl.CERT_OPTIONAL if "tls" in OPTIONS else None)
    SERVERS.append(SERVER)
print(ADDRESS, FOR_TESTS, sep="\n", flush=True)
THREADS = [threading.Thread(target=server.serve_forever) for server in SERVERS]
for thread in THREADS:
    thread.start()
