/**
 * `mod.ts` as one file for a page: what is in it, how large it is, and that it trains with a browser's few bindings.
 *
 * @module
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { inFolder } from "../data/files.ts";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import type * as page from "./page.ts";
import { differenceOf, tinyRun } from "./tiny_run.ts";

/**
 * What a page may have to download before it runs `mod.ts`, gzipped: the module and all that it imports, each file by itself. What is
 * imported where it is first used, by `import()`, is not counted, as a page does not download it: Dawn, the tuner, products on
 * matrix units. Families of models, generation, checkpoints, loaders and rare ops are modules of their own.
 */
const MOST_BYTES = 115_000;
/** The same where a bundler puts all of it into one file, what is imported later too: 120 KB of 1,024 bytes. */
const MOST_IN_ONE_FILE = 120 * 1024;
/** The same of a page that trains and uses a model that it makes: all families, attention and generation are in it. */
const MOST_OF_PAGE = 195_000;
/** See `tests/runtime/web_gpu_test.ts`. */
const ROUNDING = 2e-5;

const ROOT = new URL("../../", import.meta.url);

/** Bundles a module for a browser, as `deno bundle` does for a page. */
async function bundle(module: string, ...flags: readonly string[]): Promise<void> {
  // Where these tests run with stand-ins, the bundler needs them too.
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'exec "$0" "$@"', Deno.execPath(), "bundle", "--quiet", "--platform=browser"].concat(
      map,
      flags,
      [module],
    ),
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
}

/** Bundles a module as a server of pages does: what is imported later is in files of its own. */
async function inFiles(module: string, folder: string): Promise<ReadonlyMap<string, string>> {
  await bundle(module, "--minify", "--code-splitting", "--outdir", folder);
  const names = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, await Deno.readTextFile(`${folder}/${name}`)] as const),
    ),
  );
}

/** A file and all that it imports, not what it imports later. */
function downloaded(
  files: ReadonlyMap<string, string>,
  entry: string,
  seen = new Set<string>(),
): ReadonlySet<string> {
  seen.add(entry);
  for (const [, name] of files.get(entry)!.matchAll(/\b(?:from|import)\s*"\.\/([^"]+)"/g)) {
    if (!seen.has(name)) downloaded(files, name, seen);
  }
  return seen;
}

/** Gzipped bytes of what is downloaded at first, and a line of what is downloaded later. */
async function sizesOf(
  module: string,
  folder: string,
): Promise<{ readonly first: number; readonly text: string }> {
  const files = await inFiles(module, folder), own = module.split("/").at(-1)!.replace(/ts$/, "js");
  const bytes = new Map(
    await Promise.all([...files].map(async ([name, text]) => [name, await zippedBytes(text)] as const)),
  );
  const now = downloaded(files, own), first = [...now].reduce((n, name) => n + bytes.get(name)!, 0);
  const later = [...files.keys()].filter((name) => !now.has(name)).map((name) =>
    `${name} ${bytes.get(name)}`
  );
  return { first, text: `${module}: ${first} bytes gzipped in ${now.size} files; later ${later.join(", ")}` };
}

/** The files of a bundle that hold a pattern, by the comments that name them. */
function filesWith(text: string, pattern: RegExp): string[] {
  const found = new Set<string>();
  let file = "?";
  for (const line of text.split("\n")) {
    const comment = line.match(/^\/\/ (\S+\.[cm]?[jt]s)$/);
    if (comment !== null) file = comment[1];
    else if (pattern.test(line)) found.add(file);
  }
  return [...found];
}

async function zippedBytes(text: string): Promise<number> {
  const zipped = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return (await new Response(zipped).arrayBuffer()).byteLength;
}

Deno.test("mod.ts bundled for a browser has no package, nothing of Deno, and 120 KB at most", async () => {
  await inFolder(async (folder) => {
    await bundle("mod.ts", "--output", `${folder}/firn.js`);
    const text = await Deno.readTextFile(`${folder}/firn.js`), files = filesWith(text, /^/);
    assert(files.includes("core/tensor.ts") && files.length > 100, `only ${files.length} files`);
    // What stands before the first file is the bundler's own.
    assertEquals(files.filter((file) => !/^(\?$|mod\.ts$|core\/|kernels\/)/.test(file)), []);
    // Dawn is asked for by a name that no bundler follows.
    assertEquals(filesWith(text, /["'](npm|node|jsr|https?):/), ["core/host/load_dawn.ts"]);
    // Nor do families of models, attention, generation and its caches come with it, nor what no page has: files of the machine
    // and ranks.
    const others =
      /^core\/models\/(llama|bert)\.ts|^kernels\/attention\/|generat|place_heads|write_rows|special|system_file|\/exchange\.ts/;
    assertEquals(files.filter((file) => others.test(file)), []);
    assertEquals(filesWith(text, /\bDeno\??[.[]/), []);
    const { first, text: sizes } = await sizesOf("mod.ts", `${folder}/mod`);
    console.log(sizes);
    assert(first <= MOST_BYTES, sizes);
    await bundle("mod.ts", "--minify", "--output", `${folder}/one.js`);
    const one = await zippedBytes(await Deno.readTextFile(`${folder}/one.js`));
    assert(one <= MOST_IN_ONE_FILE, `one file has ${one} bytes gzipped`);
    console.log(`one file: ${one} bytes gzipped`);
  });
});

Deno.test("a page that trains and uses a model downloads no more than it needs", async () => {
  await inFolder(async (folder) => {
    const { first, text } = await sizesOf("tests/browser/page.ts", folder);
    console.log(text);
    assert(first <= MOST_OF_PAGE, text);
  });
});

Deno.test("the bundle trains, evaluates and generates with 8 and with 10 bindings as on Deno's own device", async () => {
  await inFolder(async (folder) => {
    await bundle("tests/browser/page.ts", "--minify", "--output", `${folder}/page.js`);
    const bundled: typeof page = await import(`file://${folder}/page.js`);
    const run = async (options: page.GpuOptions) => {
      await using gpu = await bundled.openGpu(options);
      return await tinyRun(bundled, gpu);
    };
    await assertRejects(() => run({ tuneCache: "tune.json" }), Error, 'must give "fileSystem"');
    const native = await run({});
    for (const bindings of [8, 10]) {
      const other = await run({ gpu: wrappedGpu({ bindings }) });
      assert(other.bindings <= bindings, `a kernel binds ${other.bindings}`);
      assertEquals(other.generated, native.generated);
      const difference = differenceOf(native, other);
      assert(difference < ROUNDING, `with ${bindings} bindings the run differs by ${difference}`);
    }
  });
});
