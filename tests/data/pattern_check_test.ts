import { assertEquals, assertMatch } from "@std/assert";
import { slowReason } from "../../core/data/tokenizer/pattern_check.ts";

const LINEAR = [
  String.raw`'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`,
  String
    .raw`(?:'[sS]|'[tT])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  String.raw`[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+(?:'s|'t)?|[\p{Lu}\p{M}]+[\p{Ll}\p{M}]*(?:'s|'t)?`,
  String.raw`\d{1,3}(?=(?:\d{3})*\b)`,
  " {2,}",
  "(?:a|b)*c",
];

for (const source of LINEAR) {
  Deno.test(`slowReason lets a common expression pass: ${source.slice(0, 40)}`, () => {
    assertEquals(slowReason(source), null);
  });
}

const SLOW: readonly (readonly [string, RegExp])[] = [
  ["(a+)+b", /quantifiers/],
  ["(?:a|aa)+b", /alternatives/],
  ["(.*)*", /quantifiers/],
  ["(?:x{1,3}){2,}", /quantifiers/],
  ["(?:a?){50}b", /quantifiers/],
  [String.raw`\s*\s*\s*x`, /neighbours/],
  [String.raw`\w+\w+x`, /neighbours/],
  ["(?:a*b?)a*c", /neighbours/],
  [String.raw`(\w)\1+`, /refer back/],
  ["(?<=a+)b", /lookbehind/],
  ["a{99999}", /1024 times/],
  ["(".repeat(40) + "a" + ")".repeat(40), /nest/],
  ["a".repeat(5000), /4096/],
];

for (const [source, reason] of SLOW) {
  Deno.test(`slowReason refuses what may take long: ${source.slice(0, 40)}`, () => {
    assertMatch(slowReason(source) ?? "", reason);
  });
}
