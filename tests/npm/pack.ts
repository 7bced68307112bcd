/**
 * Writes the package for npm into a folder, from which `npm publish` takes it: JavaScript for Node 22 and later, and types.
 *
 *     ./firn npm FOLDER
 *
 * TypeScript's own compiler makes both; `deno pack` writes `any` where a type is inferred, as in declarations of families.
 *
 * @module
 */

import { runMain, UsageError } from "../../examples/flags.ts";
import { print } from "../../examples/print.ts";
import { filesBelow, runIn } from "./files.ts";

const USAGE = `usage: ./firn npm FOLDER

Writes the package for npm into a folder: JavaScript for Node 22 and later, and types. npm publish FOLDER publishes it.`;

/** What of `deno.json` is read. */
export interface Config {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly imports: Readonly<Record<string, string>>;
}

/** Packages that only compiling takes. */
const COMPILER = { typescript: "7.0.2", "@types/node": "22.20.7" };

/** Packages that a program can do without: 60 MB, of which a page needs none. */
const OPTIONAL = ["webgpu"];

/** What runs Deno, or opens libraries by it. */
const OF_DENO = ["./cli", "./ranks"];

/** Folders and files that are compiled. */
const SOURCES = ["mod.ts", "core", "kernels", "policies"];

/** Files that are published as they are. */
const TEXTS = ["README.md", "LICENSE", "CHANGELOG.md"];

/** Programs that are not imported but started, by their address. */
const WORKERS = ["core/data/samples/encoder_worker.ts"];

/** What the compiler is not told by a package: Deno, which is looked for and not required, and a package without types. */
const AMBIENT = `// deno-lint-ignore-file
declare var Deno: any;
declare module "papaparse";
`;

/**
 * The package that a program of Deno names, as one of Node does.
 *
 * @param text A file
 * @returns The file
 */
export function withNodeNames(text: string): string {
  return text.replaceAll(/(["'])npm:(@?[^@"']+)@[\^~\d.]+\1/g, '"$2"');
}

/**
 * The names of the packages that files import, or load.
 *
 * @param texts Files of JavaScript or of declarations, with names of Node
 * @param known Names of packages
 * @returns Those of them that are named
 */
export function packagesOf(texts: readonly string[], known: readonly string[]): string[] {
  return known.filter((name) => texts.some((text) => text.includes(`"${name}"`))).toSorted();
}

/**
 * The `package.json` to publish. The versions of packages are the ones that this commit was tested with.
 *
 * @param config `deno.json`
 * @param packages What the files need
 * @returns The manifest
 */
export function manifestOf(
  { name, version, license, exports, imports }: Config,
  packages: readonly string[],
): Record<string, unknown> {
  const entries = Object.entries(exports).filter(([key]) => !OF_DENO.includes(key));
  const pins = (names: readonly string[]) =>
    Object.fromEntries(names.map((one) => [one, versionOf(imports, one)]));
  const path = (entry: string, ending: string) => entry.replace(/\.ts$/, ending);
  return {
    ...{ name, version, license },
    description: "Trains and fine-tunes transformers on WebGPU, and freezes what has converged",
    keywords: ["webgpu", "training", "fine-tuning", "transformer", "lora", "llm"],
    type: "module",
    engines: { node: ">=22.3" },
    sideEffects: WORKERS.map((entry) => `./${path(entry, ".js")}`),
    exports: Object.fromEntries(
      entries.map(([key, entry]) => [
        key,
        { types: path(entry, ".d.ts"), default: path(entry, ".js") },
      ]),
    ),
    dependencies: pins(packages.filter((one) => !OPTIONAL.includes(one))),
    optionalDependencies: pins(packages.filter((one) => OPTIONAL.includes(one))),
  };
}

function versionOf(imports: Config["imports"], name: string): string {
  const version = imports[name]?.match(/^npm:.+@[\^~]?(\d+\.\d+\.\d+)$/)?.[1];
  if (version === undefined) throw new Error(`deno.json has no version of "${name}" for npm`);
  return version;
}

/** Names of packages of npm among the imports of `deno.json`. */
const packagesIn = ({ imports }: Config): string[] =>
  Object.keys(imports).filter((name) => imports[name].startsWith("npm:"));

/**
 * What the compiler writes, as it is published: one name for each file, and the types of WebGPU where they are used.
 *
 * @param path The file
 * @param text Its content
 * @returns Its content
 */
export function published(path: string, text: string): string {
  const named = text.replaceAll(/(["']\.\.?\/[^"'\s]+)\.ts(["'])/g, "$1.js$2");
  if (!path.endsWith(".d.ts") || !/\bGPU/.test(named)) return named;
  return `/// <reference types="@webgpu/types" />\n${
    named.replaceAll(/^\/\/\/ <reference types="@webgpu\/types" \/>\n/gm, "")
  }`;
}

/** Compiles the sources in a folder of their own, with the packages beside them. */
async function compile(work: string, config: Config): Promise<void> {
  await runIn(".", ["cp", "-R", ...SOURCES, work]);
  for (const path of (await filesBelow(work)).filter((one) => one.endsWith(".ts"))) {
    await Deno.writeTextFile(path, withNodeNames(await Deno.readTextFile(path)));
  }
  const write = (name: string, content: unknown): Promise<void> =>
    Deno.writeTextFile(`${work}/${name}`, typeof content === "string" ? content : JSON.stringify(content));
  const names = packagesIn(config).filter((name) => !OPTIONAL.includes(name));
  const versions = Object.fromEntries(names.map((name) => [name, versionOf(config.imports, name)]));
  await write("package.json", { type: "module", private: true, dependencies: { ...versions, ...COMPILER } });
  await write("ambient.d.ts", AMBIENT);
  await write("tsconfig.json", {
    compilerOptions: {
      // Node 22 knows no "using".
      target: "es2024",
      lib: ["esnext", "dom", "dom.iterable"],
      module: "nodenext",
      types: ["node", "@webgpu/types"],
      ...{ strict: true, skipLibCheck: true, noEmitOnError: true, declaration: true },
      ...{ rewriteRelativeImportExtensions: true, rootDir: ".", outDir: "out" },
    },
    files: [
      ...Object.entries(config.exports).filter(([key]) => !OF_DENO.includes(key)).map(([, entry]) => entry),
      ...WORKERS,
      "ambient.d.ts",
    ],
  });
  await runIn(work, [Deno.execPath(), "install", "--quiet", "--node-modules-dir=auto"]);
  await runIn(work, [Deno.execPath(), "run", "--quiet", "-A", "node_modules/typescript/bin/tsc"]);
}

/**
 * Writes the package.
 *
 * @param folder Where; made when it is missing
 */
async function pack(folder: string): Promise<void> {
  const config = JSON.parse(await Deno.readTextFile("deno.json")) as Config;
  const work = await Deno.makeTempDir();
  try {
    await compile(work, config);
    const texts: string[] = [];
    for (const path of await filesBelow(`${work}/out`)) {
      const text = published(path, await Deno.readTextFile(path)), to = folder + path.slice(work.length + 4);
      texts.push(text);
      await Deno.mkdir(to.replace(/\/[^/]*$/, ""), { recursive: true });
      await Deno.writeTextFile(to, text);
    }
    const manifest = manifestOf(config, packagesOf(texts, packagesIn(config)));
    await Deno.writeTextFile(`${folder}/package.json`, JSON.stringify(manifest, null, 2) + "\n");
    for (const name of TEXTS) await Deno.copyFile(name, `${folder}/${name}`);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
  print(`wrote ${folder}: npm publish ${folder}`);
}

if (import.meta.main) {
  await runMain(async ([folder]) => {
    if (folder === "--help" || folder === "-h") return print(USAGE);
    if (!folder || folder.startsWith("-")) {
      throw new UsageError("name a folder for the package: ./firn npm FOLDER");
    }
    await pack(folder);
  }, "npm");
}
