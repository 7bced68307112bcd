import { assertEquals } from "@std/assert";
import { loadTokenizer, memoryFileSystem } from "@firn/train/data";

/** A small tokenizer, and what the Rust library makes of texts and ids; from fixtures/tokenizers/generate.py. */
interface Case {
  readonly name: string;
  readonly tokenizer: Record<string, unknown>;
  readonly texts: readonly (readonly [text: string, ids: number[], decoded: string])[];
  readonly ids: readonly (readonly [ids: number[], decoded: string])[];
}

const path = new URL("../fixtures/tokenizers/cases.json", import.meta.url);
const cases: readonly Case[] = JSON.parse(await Deno.readTextFile(path));

for (const { name, tokenizer, texts, ids } of cases) {
  Deno.test(`loadTokenizer gives the ids and texts of the Rust library: ${name}`, async () => {
    const files = { "m/tokenizer.json": JSON.stringify(tokenizer) };
    const { encode, decode } = await loadTokenizer("m", { fileSystem: memoryFileSystem(files) });
    for (const [text, expected, decoded] of texts) {
      assertEquals(encode(text), expected, JSON.stringify(text));
      assertEquals(decode(expected), decoded, JSON.stringify(text));
    }
    for (const [list, decoded] of ids) assertEquals(decode(list), decoded, JSON.stringify(list));
  });
}

Deno.test("loadTokenizer encodes a long text as it encodes its parts", async () => {
  const { tokenizer } = cases.find(({ name }) => name === "llama3")!;
  const files = { "m/tokenizer.json": JSON.stringify(tokenizer) };
  const { encode } = await loadTokenizer("m", { fileSystem: memoryFileSystem(files) });
  const once = encode(" the an ab, 12"), times = 12000;
  assertEquals(encode(" the an ab, 12".repeat(times)), Array(times).fill(once).flat());
});

Deno.test("loadTokenizer's tokenizers take a word of 200,000 letters", async () => {
  for (const name of ["gpt2", "unigram whole", "metaspace", "bert"]) {
    const { tokenizer } = cases.find((one) => one.name === name)!;
    const files = { "m/tokenizer.json": JSON.stringify(tokenizer) };
    const { encode } = await loadTokenizer("m", { fileSystem: memoryFileSystem(files) });
    assertEquals(encode("ab".repeat(1e5)).length > 0, true);
  }
});
