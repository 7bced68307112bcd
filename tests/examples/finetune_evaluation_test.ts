/**
 * Evaluation while `finetune` trains.
 *
 * @module
 */

import { assert, assertEquals, assertLess, assertThrows } from "@std/assert";
import { readLog } from "@firn/train/report";
import { checkEvaluation, EVALUATION_FLAGS, setsOf } from "../../examples/evaluation_flags.ts";
import { main as classify } from "../../examples/classify.ts";
import { main as finetune } from "../../examples/finetune.ts";
import { readFlags, UsageError } from "../../examples/flags.ts";
import { inFolder } from "../data/files.ts";
import { checkKeepBest } from "../../examples/policies.ts";
import { call, TEXT } from "./process.ts";

Deno.test("finetune evaluates on several sets, writes samples, keeps the best state and ends early, and no step has other bits", async () => {
  await inFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/text.txt`, TEXT);
    await Deno.writeTextFile(`${folder}/other.txt`, "Call me Ishmael. ".repeat(20));
    const args =
      `--data ${folder}/text.txt --steps 8 --batch 1 --length 8 --lr 0.05 --warmup 0 --eval-tokens 64`.split(
        " ",
      );
    const quick = "--policy none --no-sample --schedule constant".split(" ");
    assertEquals(await call(finetune, [...args, ...quick, "--out", `${folder}/a`]), null);
    const asked = [
      "--evaluate-every",
      "0.125",
      "--evaluate-on",
      `other=${folder}/other.txt`,
      "--sample",
      "The whale",
    ];
    const best = ["--best", "other/loss", "--stop-after", "2"];
    assertEquals(await call(finetune, [...args, ...quick, ...asked, ...best, "--out", `${folder}/b`]), null);

    const [a, b] = await Promise.all(["a", "b"].map((out) => readLog(`${folder}/${out}/metrics.jsonl`)));
    const lossesOf = (log: typeof a) => log.flatMap((line) => line.kind === "step" ? [line.loss] : []);
    const evaluations = b.flatMap((line) => line.kind === "evaluation" ? [line] : []);
    const last = evaluations.at(-1)!.step, kept = last - 2;
    assertLess(last, 8);
    assertEquals(lossesOf(b), lossesOf(a).slice(0, lossesOf(b).length));
    assertEquals(evaluations.map(({ step, set }) => `${step} ${set}`), [
      ...Array.from({ length: last }, (_, i) => [`${i + 1} held-out`, `${i + 1} other`]).flat(),
    ]);
    assertEquals(b.filter(({ kind }) => kind === "sample").length, last);
    const end = b.at(-1)!;
    assert(end.kind === "end");
    assertEquals(end.ending, { reason: "stopped", step: last, best: kept });
    // What is judged in the end is the best state, as its folder has it.
    const { metrics } = evaluations.find(({ step, set }) => step === kept && set === "held-out")!;
    assertLess(Math.abs(end.perplexity! / metrics.perplexity! - 1), 0.05);
    const names = [...Deno.readDirSync(`${folder}/b`)].map(({ name }) => name).sort();
    assertEquals(names, ["checkpoint.best.safetensors", "metrics.jsonl", "model", "report.html", "run.toml"]);
  });
});

Deno.test("flags of evaluation that would do nothing are refused", () => {
  const values = readFlags([], EVALUATION_FLAGS).values,
    names = { sets: ["held-out", "a"], metrics: ["loss"] };
  const check = (given: Partial<typeof values> & { readonly "keep-best"?: boolean }) => () =>
    checkEvaluation({ ...values, "evaluate-every": 2, ...given }, names);
  check({})();
  check({ best: "loss", "stop-after": 3, "min-delta": 0.1 })();
  check({ best: "a/loss" })();
  const refused: readonly (readonly [() => void, string])[] = [
    [check({ "evaluate-every": null, best: "loss" }), "--best needs evaluations: add --evaluate-every N"],
    [check({ "evaluate-every": null, sample: ["x"] }), "--sample needs evaluations"],
    [check({ "evaluate-every": null, "evaluate-on": ["a=x"] }), "--evaluate-on needs evaluations"],
    [check({ "stop-after": 3 }), "--stop-after needs to know what is better: add --best METRIC"],
    [check({ "min-delta": 3 }), "--min-delta needs to know what is better"],
    [check({ best: "b/loss" }), '--best must be one of loss, held-out/loss, a/loss: got "b/loss"'],
    [check({ best: "loss", "keep-best": true }), "--best and --keep-best both say which state is kept"],
    [() => checkKeepBest({ "keep-best": true, policy: "gradES", validate: null }), "add --validate N"],
    [() => checkKeepBest({ "keep-best": true }), "take --evaluate-every N --best loss in its place"],
    [() => setsOf({ "evaluate-on": ["a.txt"] }), '--evaluate-on must be NAME=FILE: got "a.txt"'],
    [() => setsOf({ "evaluate-on": ["a=b", "a=c"] }), 'there are two of "a"'],
    [() => setsOf({ "evaluate-on": ["held-out=b"] }), 'there are two of "held-out"'],
  ];
  for (const [attempt, message] of refused) assertThrows(attempt, UsageError, message);
  checkKeepBest({ "keep-best": true, policy: "gradES", validate: 2 });
  checkKeepBest({ "keep-best": true, policy: "earlyStopping", validate: null });
  assertEquals(setsOf({ "evaluate-on": ["a=b=c.txt"] }), [{ name: "a", path: "b=c.txt" }]);
  for (const every of ["0", "-1", "1.5", "x"]) {
    assertThrows(
      () => readFlags([`--evaluate-every=${every}`], EVALUATION_FLAGS),
      UsageError,
      "a share below 1",
    );
  }
});

Deno.test("classify keeps the weights of the best accuracy, and ends early", async () => {
  await inFolder(async (folder) => {
    const rows = Array.from(
      { length: 60 },
      (_, i) => ({ text: `${i % 2 ? "a whale" : "the people"} of ${i} men`, label: `${i % 2}` }),
    );
    await Deno.writeTextFile(`${folder}/rows.jsonl`, rows.map((row) => JSON.stringify(row) + "\n").join(""));
    const args =
      `--data ${folder}/rows.jsonl --steps 30 --batch 4 --lr 0.01 --evaluate-every 2 --log ${folder}/log`;
    const best = "--best accuracy --stop-after 2 --min-delta 1".split(" ");
    assertEquals(await call(classify, [...args.split(" "), ...best]), null);
    const log = await readLog(`${folder}/log/metrics.jsonl`), end = log.at(-1)!;
    const found = log.flatMap((line) => line.kind === "evaluation" ? [line] : []);
    assertEquals(found.map(({ step }) => step), [2, 4, 6]);
    assertEquals(Object.keys(found[0].metrics), ["loss", "perplexity", "accuracy"]);
    // None can be better than another by more than 1.
    assert(end.kind === "end" && end.ending !== undefined);
    assertEquals(end.ending, { reason: "stopped", step: 6, best: 2 });
  });
});
