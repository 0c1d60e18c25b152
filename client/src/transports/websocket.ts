import type { Link, Open } from './link.ts';

/** The token travels as a subprotocol: a browser cannot set headers, and URLs end up in logs. One that does not fit
 * there goes into the URL. */
export const overWebSocket: Open = ({ url, token, WebSocket }, told): Link => {
  const protocols = ['outrigger.v1.json'];
  let address = url.replace(/^http/, 'ws');
  if (token && /^[\w.~-]+$/.test(token)) protocols.push(`outrigger.token.${token}`);
  else if (token) address += `?token=${encodeURIComponent(token)}`;

  const socket = new WebSocket!(address, protocols);
  socket.onmessage = ({ data }: MessageEvent<string>) => {
    told.alive();
    told.hear(JSON.parse(data));
  };
  socket.onclose = ({ code, reason }: CloseEvent) => told.lost(code, String(reason));
  // A close follows; `ws` throws if nobody listens.
  socket.onerror = () => {};

  const say = (message: object) => {
    if (socket.readyState === 1) socket.send(JSON.stringify(message));
  };
  return { send: say, ping: () => say({ type: 'ping' }), close: () => socket.close(1000) };
};
