import { assertEquals, assertThrows } from "@std/assert";
import { InputError } from "@firn/train";
import { expression } from "../../core/huggingface/expression.ts";

const NAMES = [
  "model.layers.0.self_attn.q_proj",
  "model.layers.1.self_attn.q_proj",
  "model.layers.11.mlp.up_proj",
  "lm_head",
  "vision.q_proj",
  "a-b_c.D9",
];

/** Expressions, and which of the names Python's `re.fullmatch` finds. */
const MATCHES: readonly (readonly [string, readonly number[]])[] = [
  [String.raw`model\.layers\.\d+\.self_attn\.(q|v)_proj`, [0, 1]],
  [String.raw`.*(q_proj|up_proj)`, [0, 1, 2, 4]],
  [String.raw`(?!vision).*q_proj`, [0, 1]],
  [String.raw`(?P<x>model)\.layers\.[01]\..*`, [0, 1]],
  [String.raw`[^.]+(\.[^.]+)*`, [0, 1, 2, 3, 4, 5]],
  [String.raw`model.layers.(1){2}.*`, [2]],
  [String.raw`(?:.*\.)?(?:q_proj)`, [0, 1, 4]],
  [String.raw`^lm_head$`, [3]],
  [String.raw`\w+`, [3]],
  [String.raw`[a-z\-_]+\.[A-Z]\d?`, [5]],
  [String.raw`.*?_proj\b`, [0, 1, 2, 4]],
  [String.raw`(model|lm).*`, [0, 1, 2, 3]],
  [String.raw``, []],
  [String.raw`a|lm_head|b`, [3]],
  [String.raw`(?=.*mlp)model.*`, [2]],
  [String.raw`[]a-z_]+`, [3]],
  [String.raw`(a*)*b`, []],
  [String.raw`[\w.]+`, [0, 1, 2, 3, 4]],
  [String.raw`\S{7}`, [3]],
  [String.raw`model.{3,}`, [0, 1, 2]],
  [String.raw`(?:x|)lm_head`, [3]],
  [String.raw`l{1}m_?head`, [3]],
  [String.raw`l{,2}m_head`, [3]],
];

Deno.test("expression matches what re.fullmatch of Python matches", () => {
  for (const [source, expected] of MATCHES) {
    const matches = expression(source);
    assertEquals(NAMES.flatMap((name, i) => matches(name) ? [i] : []), expected, source);
  }
});

Deno.test("expression refuses what it does not read, and a match without end", () => {
  const rows: readonly (readonly [string, string])[] = [
    ["(a", '"(" at 0 is not closed'],
    ["a)", '")" at 1 closes none'],
    ["[a", '"[" at 0 is not closed'],
    ["*a", "that at 0 follows nothing"],
    ["a**", "that at 2 follows a count"],
    [String.raw`(a)\1`, String.raw`escapes are \d, \w, \s, \b and signs: "\1" at 3`],
    ["(?<=a)b", '"(?<" at 0'],
    ["(?i)a", '"(?i" at 0'],
    ["(".repeat(60), "groups may nest 50 deep"],
    ["a".repeat(20_001), "it may have 20000 characters"],
  ];
  for (const [source, message] of rows) assertThrows(() => expression(source), InputError, message);
  const matches = expression("(?:(?:a|aa)+)+b");
  assertThrows(() => matches("a".repeat(60)), InputError, "a match may take 100000 steps");
  assertEquals(matches("ab"), true);
});
