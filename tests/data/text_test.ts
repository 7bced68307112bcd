import { DataError, InputError, NotFoundError } from "@firn/train";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { readText, split } from "../../examples/text.ts";
import { inFolder } from "./files.ts";

Deno.test("readText reads a text file as one document and rows of JSON as several", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/a.txt`, "\ufeffone\ntwo");
    await Deno.writeTextFile(`${folder}/a.jsonl`, '{"text":"one"}\r\n\n{"text":"two\\n","label":1}');
    assertEquals(await readText(`${folder}/a.txt`), ["one\ntwo"]);
    assertEquals(await readText(`${folder}/a.jsonl`), ["one", "two\n"]);
  });
});

const BROKEN: readonly (readonly [string, string | Uint8Array, string])[] = [
  ["a.txt", " \n", "it is empty"],
  ["a.jsonl", "", "it is empty"],
  ["a.txt", new Uint8Array([0x61, 0xff]), "UTF-8"],
  ["a.jsonl", '{"text":"a"}\n{"text":', "Cannot read line 2 of"],
  ["a.jsonl", '{"text":"a"}\n\n{"txt":"a"}', "Cannot read line 3 of"],
  ["a.jsonl", '{"text":1}', "it has none"],
  ["a.jsonl", '{"text":""}', "it has none"],
  ["a.jsonl", "null", "it has none"],
];

Deno.test("readText names the file, and the line, that holds no text", async () => {
  for (const [name, content, seen] of BROKEN) {
    await inFolder(async (folder) => {
      const path = `${folder}/${name}`;
      await Deno.writeFile(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
      const error = await assertRejects(() => readText(path), DataError, seen);
      assertEquals(error.message.includes(`"${path}"`), true, error.message);
    });
  }
});

Deno.test("readText refuses files that do not exist and sources of unknown kind", async () => {
  await assertRejects(() => readText("no/such.txt"), NotFoundError, '"no/such.txt"');
  await assertRejects(() => readText("sonnets"), InputError, '"sonnets"');
});

Deno.test("split holds out the last tenth, cut at white space, and loses nothing", () => {
  const text = "word ".repeat(100);
  const { train, heldOut } = split([text]);
  assertEquals([...train, ...heldOut].join(""), text);
  assertEquals(heldOut[0].length, 46);
  assertEquals(heldOut[0].startsWith(" word"), true);
});

Deno.test("split cuts between documents where it can and inside one where it must", () => {
  const document = "ab cd";
  assertEquals(split(Array(10).fill(document)), { train: Array(9).fill(document), heldOut: [document] });
  assertEquals(split([document, document], 0.3), { train: [document, "ab"], heldOut: [" cd"] });
});

Deno.test("split cuts text without spaces between characters", () => {
  for (const text of ["ACGT".repeat(50), "\u4eba".repeat(100), "\u{1f433}".repeat(101)]) {
    const { train, heldOut } = split([text]);
    assertEquals(train.length * heldOut.length, 1);
    assertEquals(train[0] + heldOut[0], text);
    assertEquals([train[0].isWellFormed(), heldOut[0].isWellFormed()], [true, true]);
  }
});

Deno.test("split refuses to leave a part empty", () => {
  assertThrows(() => split([]), InputError, "give more text");
  assertThrows(() => split(["a b"], 1), InputError, '"holdOut"');
});
