// Who is here, and where they point: the browsers talk to each other, and this program only says who is who.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

const { WEBHOOK_SECRET = 'whsec_ZGV2ZWxvcG1lbnQgc2VjcmV0LCBub3QgZm9yIHVzZQ==' } = process.env;
const page = readFileSync(new URL('page.html', import.meta.url));
const sessions = new Map(); // cookie -> {id, name, color}

/** Standard Webhooks: HMAC-SHA256 over id.timestamp.body; nothing older than five minutes. */
function isSigned(headers, body) {
  const { 'webhook-id': id = '', 'webhook-timestamp': timestamp = '', 'webhook-signature': given = '' } = headers;
  if (!/^\d+$/.test(timestamp) || Math.abs(Date.now() / 1000 - timestamp) > 300) return false;
  const key = Buffer.from(WEBHOOK_SECRET.replace(/^whsec_/, ''), 'base64');
  const ours = Buffer.from('v1,' + createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64'));
  return given.split(' ').map((it) => Buffer.from(it)).some((it) => it.length === ours.length && timingSafeEqual(it, ours));
}

function answer(request, body) {
  const cookie = /(?:^|; *)session=([\w-]+)/.exec(request.headers.cookie ?? '');
  const user = sessions.get(cookie?.[1]);
  switch (`${request.method} ${request.url}`) {
    case 'GET /':
      return [200, page, { 'content-type': 'text/html; charset=utf-8' }];
    case 'POST /login': {
      const [id, key] = [randomBytes(6).toString('hex'), randomBytes(24).toString('base64url')];
      const name = new URLSearchParams(body.toString()).get('name')?.trim().slice(0, 24) || 'somebody';
      sessions.set(key, { id, name, color: `hsl(${parseInt(id.slice(0, 2), 16)} 70% 45%)` });
      return [200, { id }, { 'set-cookie': `session=${key}; Path=/; HttpOnly; SameSite=Lax` }];
    }
    case 'POST /webhooks/realtime':
      if (!isSigned(request.headers, body)) return [400];
      // Asked once, when a browser connects. What stands in `info` is shown to the others.
      return user ? [200, { userId: user.id, info: { name: user.name, color: user.color } }] : [403];
    default:
      return [404];
  }
}

createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const [status, body, headers] = answer(request, Buffer.concat(chunks));
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(body === undefined || Buffer.isBuffer(body) ? body : JSON.stringify(body));
}).listen(3010, '127.0.0.1');
