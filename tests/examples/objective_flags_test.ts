/**
 * Flags of objectives: which go together, and a run by preferences from rows to an adapter.
 *
 * @module
 */

import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { checkFlags, FLAGS } from "../../examples/finetune_flags.ts";
import { main } from "../../examples/finetune.ts";
import { readFlags, UsageError } from "../../examples/flags.ts";
import { pairObjective } from "../../examples/objective_flags.ts";

function check(...args: string[]): ReturnType<typeof pairObjective> {
  const { values } = readFlags(args, FLAGS);
  checkFlags(values);
  return pairObjective(values);
}

Deno.test("flags of objectives name one, and refuse what would do nothing", () => {
  assertEquals(check("--dpo", "--beta", "0.2", "--loss-type", "ipo"), "dpo");
  assertEquals(check("--dpo", "--label-smoothing", "0.1"), "dpo");
  assertEquals(check("--kto", "--undesirable-weight", "1.5"), "kto");
  assertEquals(check("--distill", "teacher", "--distill-labels", "0.25"), null);
  assertEquals(check("--dpo", "--evaluate-every", "5", "--best", "margins"), "dpo");
  const refused: readonly (readonly [rule: string, ...args: string[]])[] = [
    ["--dpo and --kto are two objectives", "--dpo", "--kto"],
    ["--orpo and --distill are two objectives", "--orpo", "--distill", "x"],
    ["--beta is for --dpo, --orpo, --kto", "--beta", "0.2"],
    ["--beta is for", "--reward", "--beta", "0.2"],
    ["--loss-type is for --dpo", "--kto", "--loss-type", "ipo"],
    ["--label-smoothing does not go with --orpo", "--orpo", "--label-smoothing", "0.1"],
    ["--label-smoothing does not go with --dpo", "--dpo", "--loss-type", "ipo", "--label-smoothing", "0.1"],
    ["--pack does not go with --dpo", "--dpo", "--pack"],
    ["--long split does not go with --kto", "--kto", "--long", "split"],
    ["--show-batch does not go with --dpo", "--dpo", "--show-batch", "1"],
    ["--dpo needs the size of a batch", "--dpo", "--batch", "auto", "--memory", "8 GiB"],
    [
      "--best must be one of loss, accuracies, margins",
      "--dpo",
      "--evaluate-every",
      "5",
      "--best",
      "perplexity",
    ],
    ["--distill-labels must be below 1", "--distill", "x", "--distill-labels", "1"],
  ];
  for (const [rule, ...args] of refused) assertThrows(() => check(...args), UsageError, rule);
});

Deno.test("finetune --dpo trains an adapter by rows of preferences, and its log has rewards", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const rows = ["one", "two", "three"].map((word) => ({
      prompt: `Say ${word}:`,
      chosen: ` ${word}.`,
      rejected: " no.",
    }));
    await Deno.writeTextFile(`${folder}/pairs.jsonl`, rows.map((row) => JSON.stringify(row)).join("\n"));
    const small = [
      "--lora",
      "2",
      "--targets",
      "q_proj",
      "--steps",
      "2",
      "--batch",
      "1",
      "--length",
      "16",
      "--policy",
      "none",
    ];
    const data = ["--data", `${folder}/pairs.jsonl`, "--held-out", "0.5", "--out", `${folder}/run`];
    const args = ["--dpo", "--model", "examples/models/sotu", ...small, ...data, "--progress", "none"];
    const said: string[] = [], { log } = console;
    console.log = (text: string) => void said.push(text);
    try {
      await main([...args, "--dry-run"]);
    } finally {
      console.log = log;
    }
    assertMatch(said.join("\n"), /^steps {7}2 of 2 × 16 tokens, .*$/m);
    assertMatch(said.join("\n"), /^time {8}about .*$/m);
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["pairs.jsonl"]);
    await main(args);
    const lines = (await Deno.readTextFile(`${folder}/run/metrics.jsonl`)).trim().split("\n").map((l) =>
      JSON.parse(l)
    );
    const steps = lines.filter(({ kind }) => kind === "step"),
      judged = lines.filter(({ kind }) => kind === "evaluation");
    assertEquals(steps.length, 2);
    for (const { metrics } of steps) assert("rewards/margins" in metrics && "rewards/accuracies" in metrics);
    assertEquals(judged.map(({ step, set }) => [step, set]), [[0, "held-out"], [2, "held-out"]]);
    assertEquals((await Deno.stat(`${folder}/run/adapter/adapter_model.safetensors`)).isFile, true);
    const kept = [...Deno.readDirSync(`${folder}/.run-reference`)].map(({ name }) => name);
    assert(kept.length === 1 && /^reference-[0-9a-f]{16}\.json$/.test(kept[0]));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
