"""A Kubernetes API with one namespace and one pod: what servers for Kubernetes need to list pods.

usage: kubernetes_api.py PORT
"""

import http.server
import json
import sys

POD = {
    "metadata": {"name": "web", "namespace": "default", "uid": "1", "creationTimestamp": "2026-11-30T00:00:00Z"},
    "spec": {"nodeName": "node", "containers": [{"name": "web", "image": "web:1"}]},
    "status": {"phase": "Running"},
}
NAMESPACE = {"metadata": {"name": "default", "uid": "2"}, "status": {"phase": "Active"}}

# The answers by path.
ANSWERS = {
    "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]},
            {
                "name": "namespaces",
                "singularName": "namespace",
                "namespaced": False,
                "kind": "Namespace",
                "verbs": ["get", "list"],
            },
        ],
    },
}
for PATH in ("/api/v1/pods", "/api/v1/namespaces/default/pods"):
    ANSWERS[PATH] = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [POD]}
ANSWERS["/api/v1/namespaces"] = {"kind": "NamespaceList", "apiVersion": "v1", "metadata": {}, "items": [NAMESPACE]}
ANSWERS["/api/v1/namespaces/default"] = {"kind": "Namespace", "apiVersion": "v1", **NAMESPACE}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers requests from `ANSWERS`."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        """Sends the answer for the path of the request."""
        path = self.path.split("?")[0].rstrip("/")
        found = ANSWERS.get(path)
        # Access reviews are posted.
        if self.command == "POST":
            review = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            found = {**review, "status": {"allowed": True}}
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = answer
    do_POST = answer


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
