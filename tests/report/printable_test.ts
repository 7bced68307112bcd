import { assertEquals } from "@std/assert";
import { freezeText, printable } from "@firn/train/report";

// deno-lint-ignore no-control-regex
const CONTROL = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;

Deno.test("printable strips what a terminal would obey and keeps text, newlines and tabs", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["plain text, 中文, ½ é 🐋\n\tnext", "plain text, 中文, ½ é 🐋\n\tnext"],
    ["\x1b[31mred\x1b[0m \x1b[2J\x1b[1;1H", "red "],
    ["\x1b]0;a title\x07x\x1b]8;;http://a.b\x1b\\link\x1b]8;;\x1b\\", "xlink"],
    ["\x1bP1$r\x1b\\a\x1bcb\x1b(0c\x1b7", "abc"],
    ["\x9b31mred\x9d0;title\x9cx\x85", "redx"],
    ["over\rwritten\b\b\x7f\0", "overwritten"],
    ["\u202egnp.exe\u2066a\u2069", "gnp.exea"],
    ["\x1b]never ended\nthe rest stays", "]never ended\nthe rest stays"],
    ["\x1b\x1b[31m[31m", "[31m"],
  ];
  for (const [text, expected] of cases) assertEquals(printable(text), expected);
});

Deno.test("printable leaves no control of any text, nested sequences among them", () => {
  const pieces = ["\x1b", "[", "]", "0;", "m", "\x07", "\x9b", "\x9d", "\x9c", "\\", "P", "x", "\u202e"];
  let seed = 1;
  const draw = (n: number) => (seed = (seed * 48271) % 2147483647) % n;
  for (let i = 0; i < 2000; i++) {
    const text = Array.from({ length: 12 }, () => pieces[draw(pieces.length)]).join("");
    assertEquals(CONTROL.test(printable(text)), false, text);
  }
});

Deno.test("printable takes a megabyte of unfinished sequences at once", () => {
  for (
    const text of ["\x1b[" + "1".repeat(1e6), "\x1b]".repeat(5e5), "\x9b".repeat(1e6), "\x1b ".repeat(5e5)]
  ) {
    const began = performance.now();
    printable(text);
    assertEquals(performance.now() - began < 1000, true);
  }
});

Deno.test("freezeText strips the names of components", () => {
  const cost = { launches: 2, flops: 1, matmulFlops: 1, bytes: 1, memory: 1, constants: 0 };
  const event = { step: 3, frozen: ["a\x1b[2J.w"], thawed: ["\x1b]0;t\x07b"], before: cost, after: cost };
  assertEquals(freezeText(event).split("\n")[0], "step 3: froze a.w; thawed b");
});

Deno.test("examples print through print and printError, which strip escapes", async () => {
  for (const folder of ["examples", "tests/bench"]) {
    for await (const { name } of Deno.readDir(new URL(`../../${folder}/`, import.meta.url))) {
      // explain colours what it stripped before; matrix_units is handed on as one file, and prints numbers; cli runs before
      // packages are there, and prints what its user typed.
      if (!/\.ts$/.test(name) || /_test\.ts$|^(print|explain|matrix_units|cli)\.ts$/.test(name)) continue;
      const source = await Deno.readTextFile(new URL(`../../${folder}/${name}`, import.meta.url));
      assertEquals(source.match(/\bconsole\.\w+/g), null, `${folder}/${name}`);
    }
  }
});
