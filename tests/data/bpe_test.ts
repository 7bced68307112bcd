import { InputError } from "@firn/train";
import { assertEquals, assertRejects } from "@std/assert";
import { corpusOf, loadTokenizer, memoryFileSystem, type Tokenizer } from "@firn/train/data";
import { encodeFiles, type TokenizerFiles, trainBpe as train } from "../../examples/bpe.ts";

const TEXT = "the thin cat in the hat, the cat in the den — naïve, 日本 😀\n\n  it's 1995 then\r\n";

function trainBpe(documents: readonly string[], vocabSize: number): Promise<TokenizerFiles> {
  return train(corpusOf(documents), { vocabSize });
}

function merges(files: TokenizerFiles): readonly string[] {
  return (files["tokenizer.json"].model as { merges: string[] }).merges;
}

function load(files: TokenizerFiles): Promise<Tokenizer> {
  return loadTokenizer(".", { fileSystem: memoryFileSystem(Object.fromEntries(encodeFiles(files))) });
}

Deno.test("trainBpe merges the most frequent pair first, ties by lower ids", async () => {
  // By hand, with spaces as Ġ: "ab" three times and "Ġa" twice; then Ġ+ab twice; then c+d and Ġ+cd once.
  assertEquals(merges(await trainBpe(["ab ab", " ab cd"], 300)), ["a b", "Ġ ab", "c d", "Ġ cd"]);
});

Deno.test("trainBpe does not merge across words", async () => {
  assertEquals(merges(await trainBpe(["a1a1a1"], 300)), []);
});

Deno.test("trainBpe counts overlapping pairs as Hugging Face's trainer does", async () => {
  assertEquals(merges(await trainBpe(["aaaaa"], 300)), ["a a", "aa a", "aa aaa"]);
});

Deno.test("trainBpe gives a tokenizer that encodes any text and decodes it back", async () => {
  const tokenizer = await load(await trainBpe([TEXT], 280));
  assertEquals([tokenizer.vocabSize, tokenizer.bos, tokenizer.eos], [280, 0, 0]);
  const everyByte = Array.from({ length: 0x800 }, (_, code) => String.fromCodePoint(code)).join("") +
    "\u0800\ud7ff\uffff\u{f0000}\u{10ffff}";
  for (const text of [TEXT, everyByte, "unseen Ωmega \u0000\u00a0\t 👨‍👩‍👧", " ", "\n \n"]) {
    assertEquals(tokenizer.decode(tokenizer.encode(text)), text);
  }
  assertEquals(tokenizer.encode(" the").length, 1);
  assertEquals(tokenizer.encode("a<|endoftext|>")[1], 0);
});

Deno.test("trainBpe refuses a vocabulary without room for bytes", async () => {
  await assertRejects(() => trainBpe(["a"], 256), InputError, "from 257");
  await assertRejects(() => trainBpe(["a"], 300.5), InputError, "got 300.5");
});
