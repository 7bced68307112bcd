// The checkers of the architecture on small sources that break the rules, each in a known place.

import { assertEquals } from "@std/assert";
import { functionsOf } from "./functions.ts";
import { circles, importsOf, printCircle } from "./imports.ts";
import { upwardImports } from "./layers.ts";
import { machineUses, moduleState, nameTests, opComparisons } from "./patterns.ts";
import { blank, print, source } from "./source.ts";

Deno.test("importsOf sees every form of import with its line, and none in comments", () => {
  const text = [
    'import { a,\n  type B } from "./one.ts";',
    'import * as c from "two";',
    'import type { D } from "./three.ts";',
    'export type { E } from "./four.ts";',
    'export * from "./five.ts";',
    'import "./six.ts";',
    '/// <reference types="npm:seven" />',
    'const f = await import("./eight.ts");',
    'type G = import("./nine.ts").G;',
    "/**",
    ' * import { assert } from "not/code";',
    ' * await import("not/code");',
    " */",
    '// import "not/code";',
  ].join("\n");
  assertEquals(importsOf(text).map(({ specifier, type, line }) => [specifier, type, line]), [
    ["./one.ts", false, 1],
    ["two", false, 3],
    ["./three.ts", true, 4],
    ["./four.ts", true, 5],
    ["./five.ts", false, 6],
    ["./six.ts", false, 7],
    ["npm:seven", true, 8],
    ["./eight.ts", false, 9],
    ["./nine.ts", false, 10],
  ]);
});

Deno.test("blank covers comments, strings, templates and regular expressions, and keeps every line and column", () => {
  const text = 'a("// {", /["{/]/); // }\nb(`{ ${c({ d: `}` })} /*`); /* {\n} */ e / f; g / h;\n';
  const code = blank(text, { strings: true });
  assertEquals(code.length, text.length);
  assertEquals(code.replace(/ +/g, " "), "a( , ); \nb(` ${c({ d: ` ` })} `); \n e / f; g / h;\n");
  assertEquals(
    blank(text).replace(/ +/g, " "),
    'a("// {", /["{/]/); \nb(`{ ${c({ d: `}` })} /*`); \n e / f; g / h;\n',
  );
});

Deno.test("circles names a circle of three files through a type import, line by line", () => {
  const sources = [
    source("core/a.ts", '// a\nimport { b } from "./b.ts";\n'),
    source("core/b.ts", 'import type { C } from "./c.ts";\n'),
    source("core/c.ts", 'type A = import("./a.ts").A;\n'),
    source("core/d.ts", 'import { a } from "./a.ts";\n'),
  ];
  const found = circles(sources);
  assertEquals(found.map(([edge]) => `${edge.path} ${edge.to}`), [
    "core/a.ts core/b.ts",
    "core/b.ts core/c.ts",
    "core/c.ts core/a.ts",
  ]);
  assertEquals(
    printCircle(found[0]),
    `core/a.ts -> core/b.ts -> core/c.ts -> core/a.ts
  core/a.ts:2: import { b } from "./b.ts";
  core/b.ts:1: import type { C } from "./c.ts";
  core/c.ts:1: type A = import("./a.ts").A;`,
  );
});

Deno.test("upwardImports names the line of an upward import and a file without a row", () => {
  const layers = [["core/low.ts"], ["core/mid/deep/"], ["core/mid/"], ["core/high/"]];
  const sources = [
    source("core/low.ts", '\nimport type { H } from "./high/h.ts";\n'),
    source("core/mid/deep/d.ts", 'import { m } from "../m.ts";\n'),
    source("core/mid/m.ts", 'import { d } from "./deep/d.ts";\nimport { n } from "./n.ts";\n'),
    source("core/high/h.ts", 'import { low } from "../low.ts";\n'),
    source("core/nowhere.ts", ""),
  ];
  assertEquals(upwardImports(sources, layers).map(print), [
    "core/nowhere.ts:1: stands in no row of LAYERS",
    'core/low.ts:2: import type { H } from "./high/h.ts";',
    'core/mid/deep/d.ts:1: import { m } from "../m.ts";',
  ]);
});

Deno.test("functionsOf counts functions of 90 lines in every form that deno fmt writes", () => {
  const body = (indent: string) => `${indent}  run(\`\n}\n\`);\n`.repeat(29) + `${indent}  done();\n`;
  const texts = {
    declaration: `export async function* f<T>({\n  a,\n}: {\n  a: T;\n}): T {\n${body("").slice(0, -10)}}\n`,
    plain: `function f(a: number): number {\n${body("")}}\n`,
    arrow: `const f = (a: number): number => {\n${body("")}};\n`,
    expression: `const f = (a: number): number =>\n  b({\n${body("  ")}  });\n`,
    method: `const o = {\n  next(a) {\n${body("  ")}  },\n};\n`,
    longHead: `const o = {\n  async next(\n    a: number,\n  ): Promise<void> {\n${body("  ")}  },\n};\n`,
    pattern: `const o = {\n  next({\n    a,\n  }: { a: number }): void {\n${body("  ")}  },\n};\n`,
    callback: `run("a", (b) => {\n${body("")}});\n`,
  };
  const lengths = Object.entries(texts).map(([name, text]) => [
    name,
    functionsOf(source("a.ts", text)).map(({ line, lines }) => `${line}+${lines}`).join(),
  ]);
  assertEquals(Object.fromEntries(lengths), {
    declaration: "1+93",
    plain: "1+90",
    arrow: "1+90",
    expression: "1+92",
    method: "2+90",
    longHead: "2+92",
    pattern: "2+92",
    callback: "1+90",
  });
});

Deno.test("functionsOf takes no call, condition or loop for a function", () => {
  const text =
    "if (a) {\n  b(\n    c,\n  );\n} else {\n  for (const d of e) {\n    f(d);\n  }\n}\nconst g = (h + i) * 2;\n";
  assertEquals(functionsOf(source("a.ts", text)), []);
});

Deno.test("nameTests finds every way to ask an op or a parameter for its name", () => {
  const bad = [
    'if (node.op.name === "add") {}',
    'if ("add" !== op.name) {}',
    'return t.op.name == "add";',
    "switch (op.name) {}",
    "if (NAMES.has(node.op.name)) {}",
    'if (name === "reshape") {}',
    "return /norm/i.test(path);",
  ];
  const good = [
    'throw new TypeError(`Cannot plan "${op.name}"`);',
    "// op.name === is for comments",
    "op.name;",
  ];
  const found = nameTests([source("core/a.ts", [...bad, ...good].join("\n"))]);
  assertEquals(found.map(({ text }) => text).sort(), bad.toSorted());
});

Deno.test("opComparisons leaves out the files that own a table", () => {
  const text =
    "if (node.op === addOp) {}\nif (op !== other) {}\nif (addOp === node.op) {}\nshape === other;\nif (drop === a) {}\n";
  const sources = [source("core/a.ts", text), source("core/ops/b.ts", text)];
  assertEquals(opComparisons(sources, ["core/ops/"]).map(({ line }) => line), [1, 2, 3]);
});

Deno.test("machineUses finds Deno outside its folder, comments left out", () => {
  const text = "/** @throws {Deno.errors.NotFound} never */\nawait Deno.open(path);\n";
  const sources = [source("core/a.ts", text), source("core/host/b.ts", text)];
  assertEquals(machineUses(sources, "core/host/").map(print), ["core/a.ts:2: await Deno.open(path);"]);
});

Deno.test("moduleState finds let and filled collections at the top of a file, and nothing inside of functions", () => {
  const text = [
    "let count = 0;",
    "const seen = new Map<string, number>();",
    "export const list: number[] = [];",
    "const table = new Map([[1, 2]]);",
    "const hidden = new WeakMap<object, number>();",
    "function f() {",
    "  let own = 0;",
    "  seen.set('a', own), hidden.set(f, 1), list.push(own);",
    "}",
    "const shader = `",
    "let lane = 0;",
    "`;",
  ].join("\n");
  assertEquals(moduleState([source("core/a.ts", text)]).map(({ line }) => line), [1, 2, 3]);
});
