/**
 * Cards of models.
 *
 * @module
 */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { explain, type Line, modelCard } from "@firn/train/report";

const config = {
  model: "org/base@0123456789abcdef0123456789abcdef01234567",
  data: "hub:org/rows/data, /home/me/private/notes.jsonl",
  license: "apache-2.0",
  out: "/home/me/out",
  prompt: "secret",
  template: "/home/me/private/turns.jinja",
  lr: 0.002,
  policy: "after(0.5, below(gradNorm, 30))",
  steps: 20,
  seed: 0,
};
const cost = (launches: number, matmulFlops: number) => ({ launches, matmulFlops, bytes: 1, memory: 1 });
const reason = { signal: "gradNorm", value: 12, threshold: 30, rule: "below" };
const LINES = [
  { kind: "start", config, adapter: "GPU | one", perplexity: 100 },
  {
    kind: "freeze",
    step: 10,
    frozen: ["model.layers.0", "model.layers.1"],
    thawed: [],
    reasons: { "model.layers.0": reason, "model.layers.1": reason },
    before: cost(10, 4e9),
    after: cost(8, 3e9),
  },
  { kind: "end", perplexity: 50 },
] as unknown as readonly Line[];

const frontOf = (card: string): string => /^---\n([^]*?)\n---\n/.exec(card)![1];

Deno.test("a card says base, data, settings, what froze and when, and the results", () => {
  const card = modelCard({
    name: "me/whales",
    config: { architectures: ["LlamaForCausalLM"] },
    run: explain(LINES),
  });
  assertEquals(frontOf(card).split("\n"), [
    "base_model: org/base",
    "base_model_relation: finetune",
    "library_name: transformers",
    "license: apache-2.0",
    "pipeline_tag: text-generation",
    "datasets:",
    "- org/rows",
    "tags:",
    "- firn",
    "- grades",
  ]);
  for (
    const text of [
      "from [org/base](https://huggingface.co/org/base) at `0123456789ab`",
      "on `org/rows/data`, `notes.jsonl`",
      "| lr | 0.002 |",
      "| GPU | GPU \\| one |",
      "| 10 | 2 froze: `model.layers.0`, `model.layers.1` | gradNorm below 30 | 4 GFLOP → 3 GFLOP (-25 %) |",
      "| perplexity | 100 | 50 |",
      'AutoModelForCausalLM.from_pretrained("me/whales")',
    ]
  ) assertStringIncludes(card, text);
  assertEquals(/home|secret|private/.test(card), false, "no path or prompt of this machine goes out");
});

Deno.test("a card of an adapter names its base and library; without a log it says what the configuration says", () => {
  const adapter = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: "org/base",
    revision: "v1",
  };
  const card = modelCard({ name: "me/lora", config: adapter, run: null });
  assertStringIncludes(frontOf(card), "base_model_relation: adapter\nlibrary_name: peft");
  assertStringIncludes(card, 'from_pretrained("org/base", revision="v1")');
  assertStringIncludes(card, 'PeftModel.from_pretrained(base, "me/lora")');
  const cached = "/c/hub/models--org--base/snapshots/0123456789abcdef0123456789abcdef01234567";
  assertStringIncludes(
    modelCard({ name: "me/a", config: { _name_or_path: cached }, run: null }),
    "base_model: org/base\n",
  );
  for (const folder of ["/home", "/home/me", ".cache", ".."]) {
    const config = { _name_or_path: `${folder}/llama` },
      local = modelCard({ name: "me/a", config, run: null });
    assertEquals([frontOf(local).includes("base_model"), local.includes(`${folder}/`)], [false, false]);
    assertStringIncludes(local, "from `llama`");
  }
});

Deno.test("what a stranger wrote into a log stays text in the card", () => {
  const start = {
    ...LINES[0],
    config: { ...config, license: "x\ny: z", lr: "</td><script>|\n# Head\u001b[31m" },
  };
  const card = modelCard({ name: "me/a", config: {}, run: explain([start as Line]) });
  assertStringIncludes(frontOf(card), 'license: "x\\ny: z"');
  assertEquals([/(?<!\\)<script|^# Head/m.test(card), card.includes("\u001b")], [false, false]);
});
