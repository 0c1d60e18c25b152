/** Unique enough for a message of one user. Not `randomUUID`: that needs a secure context. */
export function uniqueId(): string {
  const random = crypto.getRandomValues(new Uint32Array(4));
  return [...random].map((it) => it.toString(36)).join('');
}
