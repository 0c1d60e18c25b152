// Promises and whether they are kept: a broken one does not stop the next. Nothing waits longer than its time-out.

let broken = 0;

export async function promise(sentence, keep) {
  try {
    await within(30_000, keep(), 'it was done');
    console.log(`ok - ${sentence}`);
  } catch (error) {
    broken += 1;
    const where = error.stack?.split('\n').find((line) => line.includes('.mjs:'))?.trim() ?? '';
    console.log(`not ok - ${sentence}: ${error.message} (${where})`);
  }
}

export function sumUp() {
  process.exit(broken ? 1 : 0);
}

export function within(ms, promised, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${ms} ms passed before ${what}`)), ms);
  });
  return Promise.race([promised, late]).finally(() => clearTimeout(timer));
}

// A call to the internal API; its answer, which must be a success.
export async function post(path, body) {
  const response = await fetch(`http://${process.env.API}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${process.env.PUSH_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
  return text && JSON.parse(text);
}

export async function push(message) {
  return (await post('/push', message)).results;
}
