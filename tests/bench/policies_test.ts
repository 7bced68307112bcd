/**
 * The comparison of policies on models that take no time: which runs it makes, and that its numbers are theirs.
 *
 * @module
 */

import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { FirnError, type Gpu, InputError, type Model } from "@firn/train";
import { newModel } from "@firn/train/hub";
import { corpusOf } from "@firn/train/data";
import { earlyStopping, stopAt } from "@firn/train/policies";
import { type Candidate, candidateOf, choiceOf, POLICIES, randomTwin } from "./policies_list.ts";
import { type Lab, type Run, type Runner, runnerOf } from "./policies_run.ts";
import { fittingSteps, probe, study, type StudyOptions, type Threshold, twinsOf } from "./policies_study.ts";
import { rangeOf, summarise, tableLines } from "./policies_table.ts";
import { type Task, textTask } from "./policies_tasks.ts";
import { openTestGpu } from "../reference/open_gpu.ts";

const SOURCE = {
  model_type: "llama",
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  vocab_size: 64,
  max_position_embeddings: 16,
  tie_word_embeddings: true,
};
const TOKENIZER = {
  encode: (text: string) => Array.from(text, (character) => character.charCodeAt(0) % 64),
  decode: () => "",
  vocabSize: 64,
  bos: null,
  eos: 0,
  before: [],
  after: [],
  stop: [0],
};
const TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. ".repeat(12);

async function labOf(gpu: Gpu, change: (task: Task) => Task = (task) => task): Promise<Lab> {
  const model: Model = await newModel(gpu, { source: SOURCE, seed: 0 });
  const sizes = { batch: 2, length: 12, watch: 2 };
  const task = change(await textTask(corpusOf([TEXT]), { gpu, model, tokenizer: TOKENIZER, ...sizes }));
  return { gpu, task, learningRate: 1e-2, lookEvery: 2, modelOf: () => Promise.resolve(model) };
}

/** All of a run but its times. */
function timeless(
  {
    stepping: _,
    changing: __,
    total: ___,
    validating: ____,
    warmUp: _____,
    deciding: ______,
    compiling: _______,
    ...run
  }: Run,
) {
  return { ...run, curve: run.curve.map(({ seconds: _, ...point }) => point) };
}

const STEPS = 12;
const OPTIONS: Omit<StudyOptions, "candidates" | "onRun"> = {
  seeds: 2,
  steps: STEPS,
  alpha: 0.5,
  lookEvery: 2,
  limit: null,
};

Deno.test("study runs a policy beside baselines of the lengths they claim, and the same seed gives the same bits", async () => {
  await using gpu = await openTestGpu();
  const lab = await labOf(gpu), runner = runnerOf(lab);
  const candidates = [
    await candidateOf("schedule"),
    // Ends when all is frozen, before the last step.
    { label: "all at 8", thresholds: [], make: () => stopAt(8) } satisfies Candidate,
  ];
  const collect = async (seeds: number): Promise<Run[]> => {
    const runs: Run[] = [];
    const ended = await study(
      runner,
      { ...OPTIONS, seeds, candidates, onRun: (run) => void runs.push(run) },
      [],
    );
    assertEquals(ended, null);
    return runs;
  };
  const before = gpu.counts.bytes;
  const runs = await collect(2);
  // The buffer through which all is read stays.
  assertEquals(gpu.counts.bytes - before, 65536);
  const bySeed = (seed: number) =>
    runs.filter((run) => run.seed === seed).map(({ label }) => label).toSorted();
  assertEquals(bySeed(0), [
    "50 % of the steps",
    "all at 8",
    "all at 8: random twin",
    "all at 8: same FLOPs",
    "all at 8: same steps",
    "early stopping",
    "full",
    "schedule",
    "schedule: random twin",
    "schedule: same FLOPs",
    "stop at 50 %",
  ]);
  assertEquals(bySeed(1), bySeed(0));
  for (const seed of [0, 1]) {
    const of = (label: string) => runs.find((run) => run.seed === seed && run.label === label)!;
    const lengths = (label: string) => [of(label).planned, of(label).steps];
    assertEquals(lengths("full"), [12, 12]);
    assertEquals(lengths("stop at 50 %"), [12, 6]);
    assertEquals(lengths("50 % of the steps"), [6, 6]);
    assertEquals(lengths("all at 8"), [12, 8]);
    assertEquals(lengths("all at 8: same steps"), [8, 8]);
    assertEquals(lengths("schedule"), [12, 12]);
    // Another schedule from the same batches gives another model.
    assert(of("stop at 50 %").test.loss !== of("50 % of the steps").test.loss);
    const alike = of("schedule: same FLOPs"), stepFlops = of("full").flops / 12;
    assertAlmostEquals(alike.flops, alike.steps * stepFlops, 1);
    assert(Math.abs(alike.flops - of("schedule").flops) <= stepFlops, "more than a step apart");
    assertEquals(of("schedule: random twin").changes, of("schedule").changes);
    assert(of("schedule").flops < of("full").flops);
    for (const { stepping, changing, compiling, validating, deciding, total, label, policy } of runs) {
      assert(stepping > deciding && changing >= 0);
      assertEquals(deciding > 0, policy !== null && label !== "early stopping");
      assert(compiling >= 0 && compiling <= changing, `${label}: ${compiling} of ${changing}`);
      assertEquals(total, stepping + changing + validating);
      assertEquals(validating > 0, label === "early stopping");
    }
  }
  const first = runs.filter(({ seed }) => seed === 0);
  assertEquals((await collect(1)).map(timeless), first.map(timeless));
  assert(runs[0].test.loss !== runs.find(({ seed, label }) => seed === 1 && label === "full")!.test.loss);

  const summaries = summarise(runs), full = summaries[0];
  assertEquals(full.label, "full");
  const fulls = runs.filter(({ label }) => label === "full");
  assertEquals(full.loss, rangeOf(fulls.map(({ test }) => test.loss)));
  assertEquals(full.total, rangeOf(fulls.map(({ total }) => total)));
  assertEquals([full.lossChange!.mean, full.timeShare!.mean, full.seeds], [0, 1, 2]);
  const lines = tableLines(summaries);
  assertEquals(lines.length, 1 + summaries.length);
  assertMatch(
    lines[0],
    /^run +seeds +steps +frozen +loss +to full +seconds +to full +TFLOP +changes s +compiling s +validation s$/,
  );
  assertMatch(lines[1], /^full +2 +12 +0 +\d\.\d{4} \(\d\.\d{4}\.\.\d\.\d{4}\) +\+0\.00 % /);
});

Deno.test("study begins no run that would pass the limit, and says which seed it ended in", async () => {
  const done: string[] = [];
  const runner: Runner = {
    async run({ label, steps, seed }) {
      await new Promise((resolve) => setTimeout(resolve, 400));
      return { label, seed, steps, flops: steps, changes: [], everFrozen: [] } as unknown as Run;
    },
    stepFlops: () => 1,
    components: () => [],
  };
  const ended = await study(runner, {
    ...OPTIONS,
    candidates: [await candidateOf("schedule")],
    limit: 1.5,
    onRun: ({ label }) => void done.push(label),
  }, []);
  // A fourth of 400 ms would end after 1500.
  assertEquals(done, ["full", "stop at 50 %", "50 % of the steps"]);
  assertEquals(ended, "the limit of 1.5 seconds ended it in seed 0: seeds before it are whole");
});

Deno.test("early stopping ends after three validations without a fall and is judged by its best weights", async () => {
  await using gpu = await openTestGpu();
  const losses = [3, 2, 1.9996, 2.1, 2.2, 1];
  const scripted = (task: Task): Task => ({
    ...task,
    async watch(params) {
      let asked = 0;
      return { ...await task.watch(params), loss: () => Promise.resolve(losses[asked++]) };
    },
  });
  const runner = runnerOf(await labOf(gpu, scripted)), stopping = earlyStopping();
  const stopped = await runner.run({ label: "early", steps: STEPS, seed: 0, stopping });
  // A validation each look; 1.9996 is the lowest, yet no fall of 5e-4.
  assertEquals([stopped.steps, stopped.curve.map(({ loss }) => loss)], [10, losses.slice(0, 5)]);
  assertEquals(stopped.policy, stopping.name);
  const best = await runner.run({ label: "best", steps: STEPS, seed: 0, policy: stopAt(6) });
  assertEquals([best.steps, best.test.loss], [6, stopped.test.loss]);
  assert(stopped.validating > 0);
  const after = runner.run({ label: "last", steps: STEPS, seed: 0, policy: stopAt(10) });
  assert((await after).test.loss !== stopped.test.loss);
});

Deno.test("probe sets tau between the middle readings at the end of the grace period", async () => {
  await using gpu = await openTestGpu();
  const runner = runnerOf(await labOf(gpu));
  const [norm, delta] = await probe(runner, ["gradNorm", "weightDelta"], OPTIONS);
  const about = ({ signal, step, over, below, of }: Threshold) => [signal, step, over, below, of];
  assertEquals(about(norm), ["gradNorm", 6, 2, 7, 14]);
  assertEquals(about(delta), ["weightDelta", 6, 2, 7, 14]);
  assert(norm.tau > 0 && norm.tau !== delta.tau);
  assertEquals(await probe(runner, [], OPTIONS), []);
  const { make } = await candidateOf("gradES-weight");
  const policy = make({ steps: STEPS, alpha: 0.5, seed: 0, tau: { weightDelta: delta.tau } });
  assertMatch(policy.name, new RegExp(`below\\(weightDelta, ${delta.tau}\\)`));
});

Deno.test("candidateOf makes policies that train, freeze, and are told apart by their names", async () => {
  await using gpu = await openTestGpu();
  const runner = runnerOf(await labOf(gpu)), tau = { gradNorm: 1e3, gradDelta: 1e3, weightDelta: 1e3 };
  const names: (string | null)[] = [];
  for (const name of POLICIES) {
    const { label, thresholds, make } = await candidateOf(name);
    const policy = make({ steps: STEPS, alpha: 0.5, seed: 0, tau });
    const run = await runner.run({ label, steps: STEPS, seed: 0, policy, once: true });
    assert(run.test.loss < 5, `${name}: ${run.test.loss}`);
    if (thresholds.length > 0) assertEquals(run.changes[0].step, 8, name);
    names.push(run.policy);
  }
  assertEquals(new Set(names).size, POLICIES.length);
});

Deno.test("candidateOf refuses what is no policy, early", async () => {
  const folder = await Deno.makeTempDir();
  const module = (text: string, name: string) => {
    Deno.writeTextFileSync(`${folder}/${name}`, text);
    return `${folder}/${name}`;
  };
  await assertRejects(
    () => candidateOf("best"),
    InputError,
    'Cannot compare "best" as a policy is one of gradES, ',
  );
  await assertRejects(() => candidateOf("./none.ts"), FirnError, "none.ts");
  await assertRejects(() => candidateOf(module("export default 3", "number.ts")), InputError, "got number");
  const { make } = await candidateOf(
    module(
      "export default ({ seed }) => ({ name: `own ${seed}`, signals: [], init() {}, next() {}, frozen() {} })",
      "own.ts",
    ),
  );
  assertEquals(make({ steps: 1, alpha: 0.5, seed: 3, tau: {} }).name, "own 3");
  await Deno.remove(folder, { recursive: true });
});

Deno.test("fittingSteps cuts steps down to whole looks within the limit, and says what would be enough", () => {
  const plan = { steps: 300, seeds: 3, policies: 2, lookEvery: 10, perStep: 0.01, perRun: 1 };
  assertEquals(fittingSteps({ ...plan, limit: 1000 }), 300);
  const steps = fittingSteps({ ...plan, limit: 100 });
  // 34 runs with lengths of 28 full ones.
  assertEquals(steps, Math.floor((80 - 34) / 0.28 / 10) * 10);
  const refused = assertThrows(() => fittingSteps({ ...plan, limit: 50 }), InputError).message;
  const enough = Number(/take --limit (\d+),/.exec(refused)![1]);
  assertEquals(fittingSteps({ ...plan, limit: enough }), 40);
});

const PARTS = ["embed", "0.a", "0.b", "1.a", "1.b", "norm"].map((path) => ({
  path,
  parameters: [],
  layer: path.includes(".") ? Number(path[0]) : null,
  kind: path.includes(".") ? "linear" as const : "other" as const,
  size: 4,
}));

Deno.test("randomTwin freezes as many at the same steps, and draws them by the seed from what the policy chose from", () => {
  const changes = [{ step: 2, frozen: 1 }, { step: 6, frozen: 3 }, { step: 8, frozen: 2 }];
  const framed = (seed: number) => {
    const policy = randomTwin(changes, { among: choiceOf(["0.a", "1.b"], PARTS), seed });
    const start = policy.init(PARTS, { steps: 10 });
    return [1, 2, 5, 6, 8, 9].map((step) =>
      policy.frozen(policy.next(start, { steps: [step], loss: [1], learningRate: [1], readings: {} }))
    );
  };
  const seen = framed(0);
  assertEquals(seen.map(({ length }) => length), [0, 1, 1, 3, 2, 2]);
  assertEquals(seen.flat().filter((path) => !path.includes(".")), []);
  assert(JSON.stringify(framed(1)) !== JSON.stringify(seen));
  assertEquals(choiceOf(["embed"], PARTS)(PARTS[5]), true);
});

Deno.test("twinsOf asks for no twin of a policy that froze nothing", () => {
  const run = { label: "p", changes: [], everFrozen: [], flops: 119, steps: 12 } as unknown as Run;
  const runner = { components: () => [], stepFlops: () => 10 };
  assertEquals(twinsOf(run, { runner, options: OPTIONS, seed: 0 }), [{ label: "p: same FLOPs", steps: 12 }]);
});

Deno.test("policies.ts compares on the bundled model and writes everything", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${folder}/text.txt`,
      "The people of the United States saw the whale. ".repeat(60),
    );
    const standIns = import.meta.resolve("@std/assert").startsWith("file:");
    const map = standIns ? ["--import-map=tests/stand_ins/import_map.json"] : [];
    const { code, stdout, stderr } = await new Deno.Command("sh", {
      args: ["-c", 'exec "$0" "$@"', Deno.execPath(), "run", ...map, "--allow-read", "--allow-write"]
        .concat(["tests/bench/policies.ts", "--data", `${folder}/text.txt`, "--policies", "gradES"])
        .concat(["--steps", "8", "--look", "2", "--batch", "2", "--length", "16", "--watch", "1"])
        .concat(["--seeds", "1", "--out", `${folder}/out`]),
      cwd: new URL("../../", import.meta.url),
      env: { XDG_RUNTIME_DIR: folder, NO_COLOR: "1" },
    }).output();
    const [said, failed] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assertEquals(code, 0, failed);
    assertMatch(said, /^threshold tau = [\d.]+ of gradNorm: 17 of 35 matrices read less/m);
    assertMatch(said, /fewer than 3 seeds: not to be reported/);
    const results = JSON.parse(await Deno.readTextFile(`${folder}/out/results.json`));
    assertEquals(results.ended, null);
    const labels = ["50 % of the steps", "early stopping", "full", "gradES", "gradES: random twin"]
      .concat(["gradES: same FLOPs", "stop at 50 %"]);
    assertEquals(results.runs.map(({ label }: Run) => label).toSorted(), labels);
    const table = await Deno.readTextFile(`${folder}/out/table.txt`);
    for (const { label, test } of results.runs) {
      assertMatch(table, new RegExp(`^${label} +1 .*${test.loss.toFixed(4)} \\(`, "m"));
    }
    assertMatch(await Deno.readTextFile(`${folder}/out/plot.svg`), /^<svg /);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
