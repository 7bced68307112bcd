import { assertEquals } from "@std/assert";
import { bpeEncoder, type BpeOptions } from "../../core/data/tokenizer/bpe_encoder.ts";

const TOKENS = ["<unk>", "a", "b", "c", "d", "ab", "bc", "abc", "<0xC3>", "<0xA4>", "d</w>", "cd</w>", "aa"];
const vocabulary = new Map(TOKENS.map((token, id) => [token, id]));

function tokensOf(
  word: string,
  options: Partial<BpeOptions> & Pick<BpeOptions, "merges">,
): readonly string[] {
  const encode = bpeEncoder({
    vocabulary,
    unknown: 0,
    fuseUnknown: false,
    byteFallback: false,
    ignoreMerges: false,
    suffix: "",
    ...options,
  });
  return encode(word).map((id) => TOKENS[id]);
}

Deno.test("bpeEncoder merges the first pair of the list first, and what that made stale not at all", () => {
  assertEquals(tokensOf("abc", { merges: [["a", "b"], ["b", "c"]] }), ["ab", "c"]);
  assertEquals(tokensOf("abc", { merges: [["b", "c"], ["a", "b"], ["a", "bc"]] }), ["abc"]);
  assertEquals(tokensOf("aaaaa", { merges: [["a", "a"]] }), ["aa", "aa", "a"]);
});

Deno.test("bpeEncoder writes unknown characters as unknown, as one, as bytes, or leaves them out", () => {
  assertEquals(tokensOf("xya", { merges: [] }), ["<unk>", "<unk>", "a"]);
  assertEquals(tokensOf("xya", { merges: [], fuseUnknown: true }), ["<unk>", "a"]);
  assertEquals(tokensOf("äx", { merges: [], byteFallback: true }), ["<0xC3>", "<0xA4>", "<unk>"]);
  assertEquals(tokensOf("xa", { merges: [], unknown: undefined }), ["a"]);
});

Deno.test("bpeEncoder ends words with their suffix, and takes a whole token where merges are ignored", () => {
  assertEquals(tokensOf("cd", { merges: [["c", "d</w>"]], suffix: "</w>" }), ["cd</w>"]);
  assertEquals(tokensOf("abc", { merges: [], ignoreMerges: true }), ["abc"]);
});
