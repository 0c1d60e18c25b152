// Builds dist/: the global script, the module and the types. `--check` builds elsewhere and compares, so that what the
// server embeds is what the sources say.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** What a page may be asked to load, in bytes, compressed. */
const LARGEST = 10 * 1024;

const here = fileURLToPath(new URL('.', import.meta.url));
const dist = join(here, 'dist');
const { version } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));

async function buildInto(folder) {
  const shared = {
    absWorkingDir: here,
    bundle: true,
    minify: true,
    target: 'es2022',
    sourcemap: true,
    banner: { js: `/* Outrigger ${version}, MIT OR Apache-2.0 */` },
    outdir: folder,
    // The same bytes wherever it is built.
    sourceRoot: 'https://outrigger/',
  };
  await build({ ...shared, entryPoints: { client: 'src/global.ts' }, format: 'iife' });
  await build({ ...shared, entryPoints: { client: 'src/index.ts' }, format: 'esm', outExtension: { '.js': '.mjs' } });
  execFileSync(process.execPath, [
    join(here, 'node_modules/typescript/bin/tsc'), '--project', join(here, 'tsconfig.build.json'), '--outDir', folder,
  ], { stdio: 'inherit' });
}

const files = (folder) => readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((it) => it.isFile()).map((it) => join(it.parentPath, it.name).slice(folder.length + 1)).sort();

function difference(one, other) {
  const names = new Set([...files(one), ...files(other)]);
  const read = (folder, name) => { try { return readFileSync(join(folder, name), 'utf8'); } catch { return null; } };
  return [...names].filter((name) => read(one, name) !== read(other, name));
}

function complainIfLarge() {
  for (const name of ['client.js', 'client.mjs']) {
    const size = gzipSync(readFileSync(join(dist, name)), { level: 9 }).length;
    console.log(`${name}: ${size} bytes gzipped, at most ${LARGEST}`);
    if (size > LARGEST) throw new Error(`${name} is too large`);
  }
}

if (process.argv.includes('--check')) {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-client-'));
  try {
    await buildInto(folder);
    const stale = difference(folder, dist);
    if (stale.length > 0) throw new Error(`client/dist is stale, run \`npm run build\` in client/: ${stale.join(', ')}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  rmSync(dist, { recursive: true, force: true });
  await buildInto(dist);
}
complainIfLarge();
