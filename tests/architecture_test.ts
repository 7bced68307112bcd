/**
 * The layers of Firn, `kernels <- core <- policies <- mod.ts <- examples, tests`, read off the import statements.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";

interface Import {
  readonly specifier: string;
  /** True of `import type` and `export type`, which leave nothing at run time. */
  readonly type: boolean;
}

interface Source {
  /** From the root of the repository: `core/grad.ts`. */
  readonly path: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

const ROOT = new URL("../", import.meta.url);
const SKIPPED = /^(\.|node_modules$|out$|fixtures$)/;
const STATEMENT = /^(?:import|export) (type )?(?:(?:[\w*, ]|\{[^}]*\})+ from )?"([^"]+)"/gm;
const REFERENCE = /^\/\/\/ <reference types="([^"]+)"/gm;
const CALL = /^(?! *(?:\*|\/\/)).*\bimport\(\s*"([^"]+)"/gm;

const FILES = walk("");
const SOURCES = FILES.filter((path) => path.endsWith(".ts")).map(readSource);
const CONFIG = readJson("deno.json");

function walk(folder: string): string[] {
  return [...Deno.readDirSync(new URL(folder, ROOT))].filter(({ name }) => !SKIPPED.test(name))
    .flatMap(({ name, isDirectory }) => isDirectory ? walk(`${folder}${name}/`) : `${folder}${name}`).sort();
}

function readText(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

function readJson(path: string): { imports: Record<string, string>; exports: Record<string, string> } {
  return JSON.parse(readText(path));
}

function readSource(path: string): Source {
  const text = readText(path);
  return { path, text, imports: importsOf(text) };
}

function importsOf(text: string): readonly Import[] {
  return [
    ...text.matchAll(STATEMENT).map(([, type, specifier]) => ({ specifier, type: type !== undefined })),
    ...text.matchAll(REFERENCE).map(([, specifier]) => ({ specifier, type: true })),
    ...text.matchAll(CALL).map(([, specifier]) => ({ specifier, type: false })),
  ];
}

/** Where an import leads: a path from the root, or the specifier where that is a package. */
function target(path: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return new URL(specifier, new URL(path, ROOT)).href.slice(ROOT.href.length);
}

/** The imports of a folder's files that a rule forbids, each as "file: specifier". */
function offences(folder: string, allowed: (leads: string, statement: Import) => boolean): string[] {
  const sources = SOURCES.filter(({ path }) => path.startsWith(folder));
  assert(sources.length > 0, `no file in ${folder}`);
  return sources.flatMap(({ path, imports }) =>
    imports.filter((statement) => !allowed(target(path, statement.specifier), statement))
      .map(({ specifier }) => `${path}: ${specifier}`)
  );
}

Deno.test("importsOf sees every form of import, and none in comments", () => {
  const text = [
    'import { a,\n  type B } from "./one.ts";',
    'import * as c from "two";',
    'import type { D } from "./three.ts";',
    'export type { E } from "./four.ts";',
    'export * from "./five.ts";',
    'import "./six.ts";',
    '/// <reference types="npm:seven" />',
    'const f = await import("./eight.ts");',
    ' * import { assert } from "not/code";',
    ' * await import("not/code");',
  ].join("\n");
  const expected = [
    "./one.ts",
    "two",
    "./three.ts",
    "./four.ts",
    "./five.ts",
    "./six.ts",
    "npm:seven",
    "./eight.ts",
  ];
  assertEquals(importsOf(text).map(({ specifier }) => specifier), expected);
  assertEquals(importsOf(text).map(({ type }) => type), [
    false,
    false,
    true,
    true,
    false,
    false,
    true,
    false,
  ]);
});

Deno.test("kernels import nothing outside kernels", () => {
  assertEquals(offences("kernels/", (leads) => leads.startsWith("kernels/")), []);
});

Deno.test("core imports only core, kernels and two packages", () => {
  const allowed = /^(core\/|kernels\/|@huggingface\/tokenizers$|(npm:)?@webgpu\/types(@|$))/;
  assertEquals(offences("core/", (leads) => allowed.test(leads)), []);
});

Deno.test("policies import only types from core", () => {
  const found = offences(
    "policies/",
    (leads, { type }) => leads.startsWith("policies/") || type && leads.startsWith("core/"),
  );
  assertEquals(found, []);
});

Deno.test("examples import the package by its published names, and otherwise each other", () => {
  assertEquals(offences("examples/", (leads) => leads.startsWith("examples/") || !FILES.includes(leads)), []);
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
    if (source) open.push(...source.imports.map(({ specifier }) => target(source.path, specifier)));
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
  const texts = SOURCES.filter(({ path }) => /^(core\/ops|policies)\//.test(path)).map(({ text }) => text);
  const modules = [await import("../core/ops/mod.ts"), await import("../policies/mod.ts")];
  const names = modules.flatMap((module) =>
    Object.entries(module).flatMap(([name, value]) => typeof value === "function" ? [name] : [])
  );
  assert(names.length > 50);
  const shown = (name: string): boolean =>
    texts.some((text) => {
      const at = text.search(new RegExp(`^export function ${name}\\b`, "m"));
      return at > 0 && text.slice(text.lastIndexOf("/**", at), at).includes("@example");
    });
  assertEquals(names.filter((name) => !shown(name)), []);
});
