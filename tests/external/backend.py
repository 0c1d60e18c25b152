"""A plain request/response application, as one would put behind Outrigger. Webhooks are checked with the Standard
Webhooks library (PyPI: standardwebhooks), as a backend would; a bad signature is answered with 401 and remembered.
"""

import json
import os
import sys
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

WEBHOOK = Webhook(os.environ["WEBHOOK_SECRET"])
SEEN = []


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        match self.path:
            case "/":
                self.answer(200, b"<!doctype html><title>page</title>", "text/html")
            case "/seen":
                self.answer_json(200, SEEN)
            case _:
                self.answer(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        match self.path:
            case "/login":
                self.answer(204, headers={"Set-Cookie": f"session={body.decode()}; Path=/; HttpOnly; SameSite=Lax"})
            case "/orders":
                self.answer_json(201, json.loads(body), {"Outrigger-Push": '"orders.1";event="created"'})
            case "/webhooks/realtime":
                self.webhook(body)
            case _:
                self.answer(404)

    def webhook(self, body):
        try:
            event = WEBHOOK.verify(body, dict(self.headers.items()))
        except WebhookVerificationError as error:
            SEEN.append({"type": "unsigned", "why": str(error)})
            return self.answer(401)
        SEEN.append({"type": event["type"], "header": self.headers["outrigger-event"], "id": event["id"]})
        match event["type"]:
            case "connect":
                cookies = SimpleCookie(self.headers.get("cookie", ""))
                if "session" not in cookies:
                    return self.answer_json(401, {"message": "log in first"})
                self.answer_json(200, {"userId": cookies["session"].value, "channels": ["room.*"]})
            case "publish" if event["data"] == {"text": "rude"}:
                self.answer_json(422, {"message": "mind your words"})
            case "publish" if event["data"] == {"text": "quiet"}:
                self.answer_json(200, {"data": {"text": "QUIET"}, "reply": {"kept": True}})
            case _:
                self.answer(204)

    def answer_json(self, status, value, headers=None):
        self.answer(status, json.dumps(value).encode(), "application/json", headers)

    def answer(self, status, body=b"", kind=None, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    print(server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)
