"""An ordinary Python program that becomes real-time: cookie login, a checked chat, a push, and a push by header."""

import base64, hmac, json, os, secrets, time, urllib.request
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

WEBHOOK_SECRET = os.environ.get("WEBHOOK_SECRET", "whsec_ZGV2ZWxvcG1lbnQgc2VjcmV0LCBub3QgZm9yIHVzZQ==")
PUSH_KEY = os.environ.get("PUSH_KEY", "development-push-key")
API = os.environ.get("OUTRIGGER_API", "http://127.0.0.1:8700")
PAGE = Path(__file__).with_name("page.html").read_bytes()
sessions = {}  # cookie -> name


def push(channel, data):
    """Step 4: anything, anywhere in the program, reaches every browser."""
    body = json.dumps({"channel": channel, "data": data}).encode()
    headers = {"Authorization": f"Bearer {PUSH_KEY}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{API}/push", body, headers), timeout=5).close()


def is_signed(headers, body):
    """Standard Webhooks: HMAC-SHA256 over id.timestamp.body; nothing older than five minutes."""
    ident, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > 300:
        return False
    key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
    digest = hmac.digest(key, f"{ident}.{timestamp}.".encode() + body, "sha256")
    ours = ("v1," + base64.b64encode(digest).decode()).encode()
    given = headers.get("webhook-signature", "").encode()
    return any(hmac.compare_digest(ours, it) for it in given.split(b" "))


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/":
            return self.reply(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        self.reply(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        form = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if self.path == "/webhooks/realtime":
            return self.realtime(body) if is_signed(self.headers, body) else self.reply(400)
        if self.path == "/login" and form.get("name", "").strip():
            cookie = secrets.token_urlsafe(24)
            sessions[cookie] = form["name"].strip()[:24]
            return self.reply(204, headers={"Set-Cookie": f"session={cookie}; Path=/; HttpOnly; SameSite=Lax"})
        if self.path == "/orders":
            order = {"item": form.get("item", "oar"), "by": self.user() or "somebody"}
            # One header, no HTTP client: what this reply says goes to everybody who follows `orders`.
            return self.reply(201, order, {"Outrigger-Push": '"orders";event="created"'})
        if self.path == "/announce" and self.user():
            push("room.lobby", {"from": "the backend", "text": form.get("text", "")[:280]})
            return self.reply(204)
        self.reply(401 if self.path == "/announce" else 404)

    def realtime(self, body):
        """Step 3: answer Outrigger's questions. 2xx without a body is a yes. Notices, such as disconnect, only want the 2xx."""
        question = json.loads(body)
        user = self.user()  # the browser's own cookie comes along
        if question["type"] == "connect" and user:
            return self.reply(200, {"userId": user})
        if question["type"] == "publish":
            text = str((question["data"] or {}).get("text", "")).strip()[:280]
            if not user or not text:
                return self.reply(403, {"error": {"code": "not_now", "message": "Log in, and say something."}})
            return self.reply(200, {"data": {"from": user, "text": text}})
        if question["type"] == "disconnect":
            print(question["connection"]["userId"] or "somebody", "left:", question["reason"], flush=True)
        self.reply(200)

    def user(self):
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        return sessions.get(cookie.value) if cookie else None

    def reply(self, status, body=b"", headers={}):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Backend).serve_forever()
