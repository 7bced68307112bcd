/**
 * The architecture of Firn: which folder may import which, no circles, short functions, the machine in one place.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { functionsOf } from "./architecture/functions.ts";
import { circles, type Edge, type Import, importsOf, printCircle, target } from "./architecture/imports.ts";
import { upwardImports } from "./architecture/layers.ts";
import { machineUses, moduleState, nameTests, opComparisons } from "./architecture/patterns.ts";
import { FILES, LIBRARY, print, readText, SOURCES } from "./architecture/source.ts";

const CONFIG = readJson("deno.json");
const LONGEST_FUNCTION = 80;

function readJson(path: string): { imports: Record<string, string>; exports: Record<string, string> } {
  return JSON.parse(readText(path));
}

/** The imports of a folder's files that a rule forbids. */
function forbidden(folder: string, allowed: (leads: string, statement: Import) => boolean): string[] {
  const sources = SOURCES.filter(({ path }) => path.startsWith(folder));
  assert(sources.length > 0, `no file in ${folder}`);
  return sources.flatMap(({ path, text }) =>
    importsOf(text).filter((statement) => !allowed(target(path, statement.specifier), statement))
      .map((statement) => print({ path, ...statement }))
  );
}

function assertNone(offences: readonly string[]): void {
  assertEquals([...new Set(offences)].join("\n"), "");
}

Deno.test("no import of kernels, core and policies lies on a circle, type imports included", () => {
  // Each import of a circle finds the circle again: begin it at one place, so that it shows once.
  const show = (circle: readonly Edge[]): string => {
    const first = circle.indexOf(circle.toSorted((a, b) => a.path < b.path ? -1 : 1)[0]);
    return printCircle([...circle.slice(first), ...circle.slice(0, first)]);
  };
  assertNone(circles(LIBRARY).map(show));
});

Deno.test("every file imports only from its own row of LAYERS and the rows above", () => {
  const sources = [...LIBRARY, ...SOURCES.filter(({ path }) => path === "mod.ts")];
  assertNone(upwardImports(sources).map(print));
});

Deno.test("no function of kernels, core and policies is longer than 80 lines", () => {
  const functions = LIBRARY.flatMap(functionsOf).sort((a, b) => b.lines - a.lines);
  assert(functions.length > 500, `only ${functions.length} functions found`);
  const long = functions.filter(({ lines }) => lines > LONGEST_FUNCTION);
  assertNone(long.map((one) => print({ ...one, text: `${one.lines} lines: ${one.text}` })));
});

Deno.test("Deno is used only in core/host, in examples and in tests", () => {
  const sources = SOURCES.filter(({ path }) => !/^(examples|tests)\//.test(path));
  assertNone(machineUses(sources, "core/host/").map(print));
});

Deno.test("nothing asks an op or a parameter for its name", () => {
  assertNone(nameTests(LIBRARY).map(print));
});

Deno.test("only the files of OP_TABLES compare ops", () => {
  assertNone(opComparisons(LIBRARY).map(print));
});

Deno.test("no module keeps state that changes", () => {
  assertNone(moduleState(LIBRARY).map(print));
});

Deno.test("kernels import nothing outside kernels", () => {
  assertEquals(forbidden("kernels/", (leads) => leads.startsWith("kernels/")), []);
});

Deno.test("core imports only core, kernels and a few packages, each in one folder", () => {
  const allowed = /^(core\/|kernels\/|(npm:)?@webgpu\/types(@|$))/;
  const packages: Readonly<Record<string, RegExp>> = {
    "core/data/chat/": /^@huggingface\/jinja$/,
    "core/data/rows/": /^(hyparquet(-compressors)?|papaparse)$/,
    "core/hub/": /^(@huggingface\/hub|node:crypto)$/,
    // Types alone: a page must be able to import the files.
    "core/host/": /^node:(child_process|fs|os|util|worker_threads)$/,
    "core/report/": /^vega(-lite)?$/,
  };
  const open = forbidden("core/", (leads) => allowed.test(leads));
  const known = Object.entries(packages).flatMap(([folder, names]) => {
    const elsewhere = forbidden("core/", (leads) => allowed.test(leads) || !names.test(leads));
    assertEquals(elsewhere.filter((line) => !line.startsWith(folder)), []);
    return elsewhere;
  });
  assertEquals(open.filter((line) => !known.includes(line)), []);
});

Deno.test("policies import only types, errors, their contract, what defines a signal and what replays a log as training does from core", () => {
  const open = [
    "core/errors.ts",
    "core/policy.ts",
    "core/train/freeze/define_signal.ts",
    "core/train/freeze/spectral_concentration.ts",
    "core/report/replay_of.ts",
    "core/train/freeze/check_paths.ts",
  ];
  const found = forbidden(
    "policies/",
    (leads, { type }) =>
      leads.startsWith("policies/") || open.includes(leads) || type && leads.startsWith("core/"),
  );
  assertEquals(found, []);
});

Deno.test("examples import the package by its published names, and otherwise each other", () => {
  assertEquals(
    forbidden("examples/", (leads) => leads.startsWith("examples/") || !FILES.includes(leads)),
    [],
  );
});

Deno.test("only core/runtime asks WebGPU for an adapter, tests aside", () => {
  const asking = SOURCES.filter(({ path, text }) => !path.startsWith("tests/") && /navigator\.gpu/.test(text))
    .map(({ path }) => path);
  assert(asking.length > 0);
  assertEquals(asking.filter((path) => !path.startsWith("core/runtime/")), []);
});

Deno.test("no file is longer than 400 lines", () => {
  const long = SOURCES.filter(({ text }) => text.split("\n").length > 401).map(({ path }) => path);
  assertEquals(long, []);
});

Deno.test("the published modules need nothing from JSR", () => {
  const open = Object.values(CONFIG.exports).map((path) => path.slice(2));
  const reached = new Set<string>();
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (reached.has(path)) continue;
    reached.add(path);
    const source = SOURCES.find((source) => source.path === path);
    if (source) open.push(...importsOf(source.text).map(({ specifier }) => target(source.path, specifier)));
  }
  assert(reached.has("core/tensor.ts"), "the walk did not get from mod.ts to core");
  assertEquals([...reached].filter((leads) => /^(jsr:|@std\/)/.test(leads)), []);
});

Deno.test("the stand-ins' import map says what deno.json says, but for @std", () => {
  const folder = "tests/stand_ins/";
  const standIns = readJson(`${folder}import_map.json`).imports;
  const others = ([name]: [string, string]) => !name.startsWith("@std/");
  const resolved = (base: string, imports: Record<string, string>) =>
    Object.entries(imports).filter(others).map(([name, leads]) => [name, target(base, leads)]);
  assertEquals(resolved(`${folder}import_map.json`, standIns), resolved("deno.json", CONFIG.imports));
  const std = Object.keys(CONFIG.imports).filter((name) => name.startsWith("@std/"));
  assertEquals(std.filter((name) => !(name in standIns)), []);
});

Deno.test("the package's own names lead where its exports do", () => {
  for (const [name, path] of Object.entries(CONFIG.exports)) {
    assertEquals(CONFIG.imports[`@firn/train${name.slice(1)}`], path);
  }
});

Deno.test("no file reads a folder beside the repository", () => {
  const texts = FILES.filter((path) => /(\.(ts|json|md)|^firn)$/.test(path));
  assertEquals(texts.filter((path) => /\.\.\/shared/.test(readText(path))), []);
});

Deno.test("every public op and policy has an example in its doc", async () => {
  const texts = SOURCES.filter(({ path }) =>
    /^(core\/(ops\/|tensor\.ts|train\/freeze\/define_signal\.ts)|policies\/)/.test(path)
  ).map((
    { text },
  ) => text);
  const modules = [await import("../core/ops/mod.ts"), await import("../policies/mod.ts")];
  const names = modules.flatMap((module) =>
    Object.entries(module).flatMap(([name, value]) => typeof value === "function" ? [name] : [])
  );
  assert(names.length > 50);
  // The doc of the module of ops shows how to define one.
  const own = readText("core/ops/mod.ts").split("*/")[0];
  const shown = (name: string): boolean =>
    texts.some((text) => {
      const at = text.search(new RegExp(`^export function ${name}\\b`, "m"));
      return at > 0 && text.slice(text.lastIndexOf("/**", at), at).includes("@example");
    }) || own.includes(name + "(");
  assertEquals(names.filter((name) => !shown(name)), []);
});

Deno.test("the docs of models, ops and policies show in a few lines how to add one", () => {
  for (
    const [path, title] of [["core/models", "a family"], ["core/ops", "an op"], ["policies", "a policy"]]
  ) {
    const [, page] = readText(`${path}/mod.ts`).split("*/")[0].split(`## Add ${title}\n`);
    assert(page !== undefined, `${path}/mod.ts has no "## Add ${title}"`);
    const [, example] = page.split(/```(?:ts)?/), lines = example.trim().split("\n").length;
    assert(example.includes("assert") && lines <= 40, `the example of ${path}/mod.ts has ${lines} lines`);
  }
});

Deno.test("the architecture in the doc of mod.ts names every folder of kernels, core and policies, and no other", () => {
  const doc = readText("mod.ts").split("*/")[0];
  const named = [...doc.matchAll(/^ \* \| `([^`]+)` \|/gm)].map(([, folder]) => folder);
  const folders = new Set(LIBRARY.map(({ path }) => path.slice(0, path.lastIndexOf("/"))));
  assertEquals(named.toSorted(), [...folders].sort());
  const lines = doc.split("## Architecture")[1].split("| folder |")[0].trim().split("\n");
  assert(lines.length <= 25, `the architecture takes ${lines.length} lines before its table`);
});

Deno.test("the package uses nothing that Node 22 lacks", () => {
  const newer =
    /\b(Promise\.try|RegExp\.escape|Uint8Array\.fromBase64|Math\.sumPrecise|Iterator\.concat)\(|new (Async)?DisposableStack/;
  assertNone(LIBRARY.filter(({ bare }) => newer.test(bare)).map(({ path }) => path));
  // What has a way without: matrix units of naga are those of Deno.
  const float16 = LIBRARY.filter(({ bare }) => /\bFloat16Array\b|Math\.f16round/.test(bare)).map(({ path }) =>
    path
  );
  const known = [
    "core/data/floats.ts",
    "kernels/half.ts",
    "core/runtime/naga_matrices.ts",
  ];
  assertEquals(float16.filter((path) => !known.includes(path)), []);
});
