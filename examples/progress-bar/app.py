"""A slow job that shows how far it is: the browser starts it with a form, and hears of it on a channel of its own."""

import json, os, secrets, threading, time, urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PUSH_KEY = os.environ.get("PUSH_KEY", "development-push-key")
API = os.environ.get("OUTRIGGER_API", "http://127.0.0.1:8700")
PAGE = Path(__file__).with_name("page.html").read_bytes()
STEPS = ["Reading the file", "Checking each row", "Resizing pictures", "Writing the report", "Sending it out"]


def push(channel, data):
    body = json.dumps({"channel": channel, "data": data}).encode()
    headers = {"Authorization": f"Bearer {PUSH_KEY}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{API}/push", body, headers), timeout=5).close()


def work(job):
    """Whatever takes long: here it only sleeps. Each push reaches every browser that shows the job."""
    for percent in range(0, 101, 2):
        push(f"job.{job}", {"percent": percent, "step": STEPS[min(percent // 20, 4)]})
        time.sleep(float(os.environ.get("PACE", "0.1")))


class Backend(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, PAGE, "text/html; charset=utf-8") if self.path.split("?")[0] == "/" else self.reply(404)

    def do_POST(self):
        if self.path != "/jobs":
            return self.reply(404)
        job = secrets.token_urlsafe(9)  # Nobody can guess it, so the rule may let everybody in who knows it.
        threading.Thread(target=work, args=[job], daemon=True).start()
        self.reply(202, json.dumps({"job": job}).encode(), "application/json")

    def reply(self, status, body=b"", kind="text/plain"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8010), Backend).serve_forever()
