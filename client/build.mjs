// Builds dist/: the global script, the module and, for the package alone, the types. `--check` writes nothing and compares,
// so that what the server embeds is what the sources say.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

/** What a page may be asked to load, in bytes, compressed. */
const LARGEST = 10 * 1024;

const here = fileURLToPath(new URL('.', import.meta.url));
const dist = join(here, 'dist');
const types = join(dist, 'types');
const { version } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));

async function bundles() {
  const both = {
    absWorkingDir: here,
    bundle: true,
    minify: true,
    target: 'es2022',
    sourcemap: true,
    banner: { js: `/* Outrigger ${version}, MIT OR Apache-2.0 */` },
    outdir: dist,
    write: false,
  };
  const script = await build({ ...both, entryPoints: { client: 'src/global.ts' }, format: 'iife' });
  const module = { entryPoints: { client: 'src/index.ts' }, format: 'esm', outExtension: { '.js': '.mjs' } };
  const files = [...script.outputFiles, ...(await build({ ...both, ...module })).outputFiles];
  return new Map(files.map((it) => [basename(it.path), it.text]));
}

function writeTypes() {
  const tsc = join(here, 'node_modules/typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '--project', join(here, 'tsconfig.build.json'), '--outDir', types], { stdio: 'inherit' });
  for (const name of readdirSync(types, { recursive: true }).filter((it) => it.endsWith('.d.ts'))) {
    // What a user's compiler finds beside them are `.d.ts` files, and those it looks for under `.js`.
    const path = join(types, name);
    writeFileSync(path, readFileSync(path, 'utf8').replace(/(from '\..*)\.ts'/g, "$1.js'"));
  }
}

function read(name) {
  try {
    return readFileSync(join(dist, name), 'utf8');
  } catch {
    return undefined;
  }
}

const built = await bundles();
if (process.argv.includes('--check')) {
  const stale = [...built].filter(([name, text]) => read(name) !== text).map(([name]) => name);
  if (stale.length > 0) throw new Error(`stale in client/dist, run \`npm run build\` in client/: ${stale.join(', ')}`);
} else {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  for (const [name, text] of built) writeFileSync(join(dist, name), text);
  writeTypes();
}
for (const name of ['client.js', 'client.mjs']) {
  const size = gzipSync(built.get(name), { level: 9 }).length;
  console.log(`${name}: ${size} bytes gzipped, at most ${LARGEST}`);
  if (size > LARGEST) throw new Error(`${name} is too large`);
}
