/**
 * `mod.ts` as one file for a page: what is in it, how large it is, and that it trains with a browser's few bindings.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type * as firn from "@firn/train";
import { inFolder } from "../data/files.ts";
import { wrappedGpu } from "../runtime/wrapped_gpu.ts";
import { differenceOf, tinyRun } from "./tiny_run.ts";

/** A page that uses everything waits for this much: 184 KB in November 2026, with 19 families, 90 ops and matrix units. */
const MOST_BYTES = 190_000;
/** See `tests/runtime/web_gpu_test.ts`. */
const ROUNDING = 2e-5;

const ROOT = new URL("../../", import.meta.url);

/** Bundles `mod.ts` for a browser, as `deno bundle` does for a page. */
async function bundle(path: string, ...flags: readonly string[]): Promise<string> {
  // Where these tests run with stand-ins, the bundler needs them too.
  const standIns = import.meta.resolve("@std/assert").startsWith("file:");
  const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'exec "$0" "$@"', Deno.execPath(), "bundle", "--quiet", "--platform=browser"]
      .concat(map, flags, ["--output", path, "mod.ts"]),
    cwd: ROOT,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return await Deno.readTextFile(path);
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

Deno.test("mod.ts bundled for a browser has no package and no Deno outside core/host, and is small", async () => {
  await inFolder(async (folder) => {
    const text = await bundle(`${folder}/firn.js`);
    const files = filesWith(text, /^/);
    assert(files.includes("core/tensor.ts") && files.length > 100, `only ${files.length} files`);
    assertEquals(files.filter((file) => !/^(mod\.ts$|core\/|kernels\/)/.test(file)), []);
    // Dawn is loaded where it is asked for, by a name that no bundler follows; Node is asked for its own modules.
    assertEquals(filesWith(text, /["'](npm|jsr|https?):/), ["core/host/load_dawn.ts"]);
    assertEquals(filesWith(text, /(?<!getBuiltinModule\()["']node:/), []);
    assertEquals(filesWith(text, /\bimport\(["']/), []);
    const own = filesWith(text, /\bDeno\??\.\w/);
    assertEquals(own.filter((file) => !file.startsWith("core/host/")), []);
    const bytes = await zippedBytes(await bundle(`${folder}/firn.min.js`, "--minify"));
    console.log(`mod.ts, minified and gzipped: ${bytes} bytes`);
    assert(bytes <= MOST_BYTES, `${bytes} bytes`);
  });
});

Deno.test("the bundle trains, evaluates and generates with 8 and with 10 bindings as on Deno's own device", async () => {
  await inFolder(async (folder) => {
    await bundle(`${folder}/firn.min.js`, "--minify");
    const bundled: typeof firn = await import(`file://${folder}/firn.min.js`);
    const run = async (options: firn.GpuOptions) => {
      await using gpu = await bundled.openGpu(options);
      return await tinyRun(bundled, gpu);
    };
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
