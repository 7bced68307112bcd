import { assertEquals } from "@std/assert";
import { textDecoder } from "@firn/train/infer";
import { loadTokenizer } from "@firn/train/data";

/** A tokenizer whose ids are bytes. */
const BYTES = {
  decode: (ids: ArrayLike<number>) => new TextDecoder().decode(Uint8Array.from(Array.from(ids))),
};
const bytesOf = (text: string): number[] => [...new TextEncoder().encode(text)];

Deno.test("textDecoder never splits a character, and gives all of the text", () => {
  const text = "naïve 🐋 — 鯨, \u{1F468}‍\u{1F469}‍\u{1F467} end";
  for (const at of [1, 2, 3, 5]) {
    const ids = bytesOf(text), decoder = textDecoder(BYTES), pieces: string[] = [];
    for (let i = 0; i < ids.length; i += at) pieces.push(decoder.add(ids.slice(i, i + at)));
    pieces.push(decoder.end());
    assertEquals(pieces.join(""), text);
    assertEquals(pieces.filter((piece) => /\ufffd/.test(piece) || !piece.isWellFormed()), []);
  }
});

Deno.test("textDecoder gives what is left of a broken character at the end", () => {
  const decoder = textDecoder(BYTES);
  assertEquals([decoder.add(bytesOf("a🐋").slice(0, 3)), decoder.end()], ["a", "\ufffd"]);
});

Deno.test("textDecoder ends before a stop string across tokens, and holds back what may begin one", () => {
  const decoder = textDecoder(BYTES, { stop: ["<end>", "\n\n"] });
  const pieces = [..."It is <e> and\n<end> no"].map((character) => decoder.add(bytesOf(character)));
  assertEquals(pieces.join("") + decoder.end(), "It is <e> and\n");
  assertEquals([pieces[6], pieces[7], pieces[8], decoder.stopped], ["", "", "<e>", true]);
  const other = textDecoder(BYTES, { stop: ["<end>"] });
  assertEquals([other.add(bytesOf("a <en")), other.end(), other.stopped], ["a ", "<en", false]);
});

Deno.test("textDecoder gives the text that follows a prompt, its first space too, as the tokenizer decodes all of it", async () => {
  const tokenizer = await loadTokenizer("examples/models/sotu");
  const before = tokenizer.encode("The state of"), text = " the Union is strong, and strong it stays.";
  const decoder = textDecoder(tokenizer, { before });
  const pieces = tokenizer.encode("The state of" + text).slice(before.length).map((id) => decoder.add([id]));
  assertEquals(pieces.join("") + decoder.end(), text);
});
