// An ordinary Node program that becomes real-time: cookie login, a checked chat, a push, and a push by header.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const {
  WEBHOOK_SECRET = 'whsec_ZGV2ZWxvcG1lbnQgc2VjcmV0LCBub3QgZm9yIHVzZQ==',
  PUSH_KEY = 'development-push-key',
  OUTRIGGER_API = 'http://127.0.0.1:8700',
  HOST = '127.0.0.1',
} = process.env;
const page = readFileSync(new URL('page.html', import.meta.url));
const sessions = new Map(); // cookie -> name

/** Step 4: anything, anywhere in the program, reaches every browser. */
async function push(channel, data) {
  const response = await fetch(`${OUTRIGGER_API}/push`, {
    method: 'POST',
    headers: { authorization: `Bearer ${PUSH_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ channel, data }),
    signal: AbortSignal.timeout(5000),
  });
  if (!response.ok) throw new Error(`push: ${response.status} ${await response.text()}`);
}

/** Standard Webhooks: HMAC-SHA256 over id.timestamp.body; nothing older than five minutes. */
function isSigned(headers, body) {
  const { 'webhook-id': id = '', 'webhook-timestamp': timestamp = '', 'webhook-signature': given = '' } = headers;
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - timestamp) > 300) return false;
  const key = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ''), 'base64');
  const ours = Buffer.from('v1,' + createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64'));
  return given.split(' ').map((it) => Buffer.from(it)).some((it) => it.length === ours.length && timingSafeEqual(it, ours));
}

function userOf(request) {
  const cookie = /(?:^|; *)session=([\w-]+)/.exec(request.headers.cookie ?? '');
  return cookie ? sessions.get(cookie[1]) : undefined;
}

/** Step 3: answer Outrigger's questions. 2xx without a body is a yes. Notices, such as disconnect, only want the 2xx. */
function realtime(question, user) {
  if (question.type === 'connect' && user) return [200, { userId: user }];
  if (question.type === 'publish') {
    const text = String(question.data?.text ?? '').trim().slice(0, 280);
    if (!user || !text) return [403, { error: { code: 'not_now', message: 'Log in, and say something.' } }];
    return [200, { data: { from: user, text } }];
  }
  if (question.type === 'disconnect') console.log(`${question.connection.userId ?? 'somebody'} left: ${question.reason}`);
  return [200];
}

/** Status, body and headers of the answer. */
async function answer(request, body) {
  const user = userOf(request); // in a webhook too: the browser's own cookie comes along
  const form = new URLSearchParams(body.toString());
  switch (`${request.method} ${request.url}`) {
    case 'GET /':
      return [200, page, { 'content-type': 'text/html; charset=utf-8' }];
    case 'POST /webhooks/realtime':
      return isSigned(request.headers, body) ? realtime(JSON.parse(body), user) : [400];
    case 'POST /login': {
      const name = form.get('name')?.trim().slice(0, 24);
      if (!name) return [422];
      const cookie = randomBytes(24).toString('base64url');
      sessions.set(cookie, name);
      return [204, undefined, { 'set-cookie': `session=${cookie}; Path=/; HttpOnly; SameSite=Lax` }];
    }
    case 'POST /orders':
      // One header, no HTTP client: what this reply says goes to everybody who follows `orders`.
      return [201, { item: form.get('item') ?? 'oar', by: user ?? 'somebody' }, { 'outrigger-push': '"orders";event="created"' }];
    case 'POST /announce':
      if (!user) return [401];
      await push('room.lobby', { from: 'the backend', text: (form.get('text') ?? '').slice(0, 280) });
      return [204];
    default:
      return [404];
  }
}

createServer(async (request, response) => {
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const [status, body, headers] = await answer(request, Buffer.concat(chunks));
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(body === undefined || Buffer.isBuffer(body) ? body : JSON.stringify(body));
  } catch (error) {
    console.error(error);
    response.writeHead(500).end();
  }
}).listen(3000, HOST);
