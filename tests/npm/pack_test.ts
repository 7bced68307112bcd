import { assertEquals, assertThrows } from "@std/assert";
import { type Config, manifestOf, packagesOf, published, withNodeNames } from "./pack.ts";

const CONFIG: Config = {
  name: "@a/b",
  version: "1.2.3",
  license: "MIT",
  exports: { ".": "./mod.ts", "./data": "./core/data/mod.ts", "./cli": "./examples/cli.ts" },
  imports: {
    vega: "npm:vega@6.4.0",
    "@webgpu/types": "npm:@webgpu/types@^0.1.66",
    webgpu: "npm:webgpu@0.6.2",
  },
};

Deno.test("the package for npm exports what deno.json does but for the command line, and pins exact versions", () => {
  const manifest = manifestOf(CONFIG, ["@webgpu/types", "vega", "webgpu"]);
  assertEquals(manifest.exports, {
    ".": { types: "./mod.d.ts", default: "./mod.js" },
    "./data": { types: "./core/data/mod.d.ts", default: "./core/data/mod.js" },
  });
  assertEquals([manifest.name, manifest.version, manifest.type], ["@a/b", "1.2.3", "module"]);
  assertEquals(manifest.dependencies, { "@webgpu/types": "0.1.66", vega: "6.4.0" });
  assertEquals(manifest.optionalDependencies, { webgpu: "0.6.2" });
  assertThrows(() => manifestOf(CONFIG, ["papaparse"]), Error, 'no version of "papaparse"');
});

Deno.test("files of the package name packages and each other as Node does", () => {
  assertEquals(
    withNodeNames("import(\"npm:@huggingface/hub@2.17.5\"); a = 'npm:webgpu@0.6.2';"),
    'import("@huggingface/hub"); a = "webgpu";',
  );
  assertEquals(packagesOf(['import("vega")', 'from "webgpu"'], ["webgpu", "vega", "other"]), [
    "vega",
    "webgpu",
  ]);
  assertEquals(
    published("a.js", 'import "./b.ts"; new URL("../w.ts", import.meta.url)'),
    'import "./b.js"; new URL("../w.js", import.meta.url)',
  );
  assertEquals(
    published("a.d.ts", "let a: GPUDevice;"),
    '/// <reference types="@webgpu/types" />\nlet a: GPUDevice;',
  );
  assertEquals(published("a.d.ts", 'export * from "./b.ts";'), 'export * from "./b.js";');
});
