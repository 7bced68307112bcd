import { assertEquals } from "@std/assert";
import { cached } from "../../core/data/tokenizer/word_cache.ts";

Deno.test("words are encoded once, and again after the cache was emptied", () => {
  const asked: string[] = [];
  const encode = cached((word) => [asked.push(word)]);
  assertEquals([encode("one"), encode("two"), encode("one")], [[1], [2], [1]]);
  const long = "a".repeat(300);
  assertEquals([encode(long), encode(long)], [[3], [4]]);
  for (let i = 0; i < 2 ** 16; i++) encode(`${i}`);
  assertEquals(encode("one"), [asked.length]);
  assertEquals(asked.at(-1), "one");
});
