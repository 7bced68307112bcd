import { assertEquals, assertThrows } from "@std/assert";
import { readExpression, sourceOf } from "../../core/data/tokenizer/expression.ts";
import { ExpressionError } from "../../core/data/tokenizer/expression_class.ts";
import { slowRuns } from "../../core/data/tokenizer/pattern_check.ts";

/** Expressions of published tokenizers, and those of their runs that may take long. */
const PUBLISHED: readonly (readonly [name: string, expression: string, runs: readonly string[]])[] = [
  ["GPT-2", String.raw`'s|'t|'re| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, []],
  [
    "Llama 3",
    String
      .raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    [],
  ],
  [
    "Qwen 3.5",
    String
      .raw`(?i:'s|'t)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    [],
  ],
  [
    "Phi",
    String
      .raw`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
    [],
  ],
  [
    "DeepSeek V3",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    [],
  ],
  ["DeepSeek Coder", String.raw`\s?[A-Za-zµÀ-ÖØ-öø-ƺ]+`, []],
  ["ends of lines", String.raw`\s+$`, [String.raw`[\p{White_Space}]`]],
  ["BLOOM", " ?[^(\\s|[.,!?…。，、।۔،])]+", []],
  ["CLIP", String.raw`<\|startoftext\|>|'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`, []],
  ["T5", " {2,}", []],
  ["thousands", String.raw`\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))`, [String.raw`[\p{N}]`]],
  ["StarCoder", String.raw`\d{1,3}(?=(?:\d{3})*\b)`, [String.raw`[\p{Nd}]`]],
];

for (const [name, source, runs] of PUBLISHED) {
  Deno.test(`slowRuns lets the expression of a published tokenizer pass: ${name}`, () => {
    assertEquals(slowRuns(readExpression(source)), runs);
  });
}

const QUANTIFIERS = "quantifiers, alternatives", WAYS = "in many ways";
const REFUSED: readonly (readonly [expression: string, reason: string])[] = [
  ["(a+)+b", QUANTIFIERS],
  ["(?:a|a)*b", QUANTIFIERS],
  ["(?:a|aa)+b", QUANTIFIERS],
  [String.raw`(?:\w|\d)*b`, QUANTIFIERS],
  ["(?:a?){50}b", QUANTIFIERS],
  ["(?:x{1,3}){2,}", QUANTIFIERS],
  ["((((a*))))*", QUANTIFIERS],
  ["(a*)*", QUANTIFIERS],
  ["a?".repeat(50) + "b", WAYS],
  ["(?:a|a)".repeat(20) + "b", WAYS],
  ["(?:a|ab)".repeat(20) + "c", WAYS],
  ["(?:x|a*)".repeat(2) + "c", WAYS],
  [String.raw`\s*\s*\s*x`, WAYS],
  [String.raw`\s*\s*(?!\S)`, WAYS],
  [String.raw`\w+\w+x`, WAYS],
  [String.raw`\w+\p{L}+$`, WAYS],
  [String.raw`[ก-ฮ]+\p{Thai}+x`, WAYS],
  ["😀*😀*x", WAYS],
  ["(?:a*b?)a*c", WAYS],
  [String.raw`\s+(?=\s*x)`, "look ahead without bound"],
  [String.raw`(\w)\1+`, String.raw`the escape "\1"`],
  ["(?<=a+)b", "lookbehind"],
  ["a{99999}", "1024 times"],
  ["(?:a|)*", "repeat a"],
  ["(?=a)*", "repeat an assertion"],
  ["(?<name>a)", "a group such as"],
  ["(a", "leave a group open"],
  ["[a", "leave a class open"],
  ["a)", "close a group"],
  [String.raw`\p{Nothing}`, 'the property "Nothing"'],
  ["(".repeat(40) + "a" + ")".repeat(40), "nest more than 32"],
  ["[".repeat(40) + "a" + "]".repeat(40), "nest more than 8"],
];

for (const [source, reason] of REFUSED) {
  Deno.test(`slowRuns refuses what may take long or is not read: ${source.slice(0, 40)}`, () => {
    assertThrows(() => slowRuns(readExpression(source)), ExpressionError, reason);
  });
}

Deno.test("readExpression reads lines, words and cases as Oniguruma does", () => {
  const rows: readonly (readonly [expression: string, text: string, matches: readonly string[]])[] = [
    ["^.", "a\nb\n", ["a", "b"]],
    ["a$", "a\na", ["a", "a"]],
    [String.raw`\A\w|\w\z`, "ab\ncd", ["a", "d"]],
    [String.raw`\w+`, "a½ b\u0301²", ["a½", "b\u0301²"]],
    [String.raw`[\w]+`, "a½ b\u0301²", ["a", "b\u0301"]],
    ["(?i:'s|k)", "'S'ſ \u212a", ["'S", "'ſ", "\u212a"]],
    ["a++a|b", "aaab", ["b"]],
    ["[^a&&b]", "abc", ["a", "b", "c"]],
    ["[]a]", "]a[", ["]", "a"]],
    ["a{,2}b", "aaab", ["aab"]],
    [String.raw`\x{61}\h|\p{^L}`, "afz1", ["af", "1"]],
  ];
  for (const [source, text, matches] of rows) {
    const expression = new RegExp(sourceOf(readExpression(source)), "gv");
    assertEquals(text.match(expression), matches, source);
  }
});
