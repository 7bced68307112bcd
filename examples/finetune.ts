/**
 * Fine-tunes a Hugging Face checkpoint on text with GradES, and shows what freezing saved.
 *
 * ```sh
 * deno run --allow-read --allow-write examples/finetune.ts --help
 * ```
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  cosine,
  DataError,
  defineTraining,
  free,
  InputError,
  type Model,
  nextTokenLoss,
  removeCheckpoint,
  saveCheckpoint,
  scan,
  type TrainingState,
} from "@firn/train";
import {
  type Corpus,
  hostFileSystem,
  loadTokenizer,
  lockFolder,
  packCorpus,
  splitCorpus,
  tokenWindows,
} from "@firn/train/data";
import { companionFiles, saveModel } from "@firn/train/hub";
import {
  bytesText,
  change,
  endingText,
  freezeText,
  openLog,
  renderReport,
  reportOf,
  stepLines,
} from "@firn/train/report";
import {
  helpOf,
  oneOf,
  positive,
  runMain,
  share,
  text,
  toggle,
  UsageError,
  type Values,
  whole,
} from "./flags.ts";
import { GPU_FLAGS, openDevice } from "./gpu.ts";
import { loadShown } from "./load_model.ts";
import { checkOutput, claimFolder, lastCheckpoint, nextFree } from "./output.ts";
import { perplexity } from "./perplexity.ts";
import { PRETRAINED_RATE, rateOf } from "./model_card.ts";
import { POLICY, policyOf, VALIDATE, validateEvery } from "./policies.ts";
import { print } from "./print.ts";
import { clock, progress, stage } from "./progress.ts";
import { continueText, quoted } from "./sample.ts";
import { catchSignals, InterruptedError } from "./signals.ts";
import { extraOf, readRun, RUN_FLAGS } from "./saved_flags.ts";
import { openText } from "./text.ts";

const FLAGS = {
  model: text("DIR", "Hugging Face folder of the model", "examples/models/sotu"),
  data: text("NAME|FILE", "moby-dick, sotu, or a .txt or .jsonl file", "moby-dick"),
  steps: whole("optimizer steps", 120),
  batch: whole("sequences in a batch", 8),
  length: whole("tokens in a sequence", 64, 2),
  lr: positive(
    `largest learning rate, after warm-up; what the model's card recommends when absent, else ${PRETRAINED_RATE}`,
    null,
  ),
  precision: oneOf(
    ["f32", "f16"],
    "how intermediate values are stored; f16 saves memory where batches are large (135 M, 8 × 512 tokens: " +
      "2.8 GiB, not 4.4), none where they are small (8 × 64); weights and Adam's moments stay f32",
    "f32",
  ),
  policy: POLICY,
  tau: positive("threshold of gradES", 30),
  alpha: share("share of the steps in which gradES freezes nothing", 0.5),
  metric: oneOf(["gradNorm", "gradDelta", "weightDelta"], "what gradES compares with tau", "gradNorm"),
  seed: whole("seed of batches and samples", 0, 0),
  prompt: text("TEXT", "beginning of the generated samples", "The whale"),
  "no-sample": toggle("generate no samples before and after"),
  "eval-tokens": whole(
    "most tokens of the held-out text that perplexity is computed on; all when absent",
    null,
    2,
  ),
  out: text("DIR", "output folder, new or empty; out/finetune-N when absent", null),
  validate: VALIDATE,
  ...RUN_FLAGS,
  ...GPU_FLAGS,
};

const USAGE = `usage: ./firn finetune [flags]
       deno run --allow-read --allow-write examples/finetune.ts [flags]

Fine-tunes a model on text, the last tenth held out, and writes the model, metrics.jsonl and report.html.
Traffic is what the kernels of a step read and write by plan; device memory is the most that buffers took at a
time, for weights, Adam's moments and intermediate values.`;

type Flags = Omit<Values<typeof FLAGS>, "lr"> & { readonly lr: number };

const WORSE =
  "held-out text is predicted worse than before: lower --lr, take fewer --steps, or give more text";

/**
 * Runs the command.
 *
 * @param args The command line
 */
export async function main(args: readonly string[]): Promise<void> {
  const { values, checkpoint, policyHash, newRate, help } = await readRun(args, {
    command: "finetune",
    table: FLAGS,
  });
  if (help) return print(helpOf(USAGE, FLAGS));
  const began = performance.now();
  const evaluated = values["eval-tokens"] ?? Infinity;
  if (evaluated < values.length) {
    throw new UsageError(`--eval-tokens must fill a sequence of --length ${values.length}: got ${evaluated}`);
  }
  const { rate, why } = await rateOf(values.model, values.lr);
  const flags: Flags = { ...values, lr: rate };
  const { policy, hash } = await policyOf(flags.policy, { ...flags, hash: policyHash });
  const resumed = checkpoint !== null, out = flags.out ?? await nextFree("out/finetune");
  await checkOutput(out, { resumed, model: flags.model });
  if (resumed) print(`resume      ${out}: reads ${flags.model}, ${flags.data}`);
  const corpus = await stage(`reading     ${flags.data}`, () => openText(flags.data));

  await using gpu = await openDevice(flags);
  print(`adapter     ${gpu.name}${gpu.software ? " (software: right, but slow)" : ""}`);
  const base = await loadShown(gpu, flags.model);
  const tokenizer = await loadTokenizer(flags.model, { model: base });
  if (flags.length > base.maxLength) {
    throw new InputError(
      `Cannot train on ${flags.length} tokens as "${flags.model}" allows ${base.maxLength}: lower --length`,
    );
  }
  const files = await companionFiles(flags.model);
  const { train, heldOut } = await splitCorpus(corpus);
  const every = validateEvery(flags);
  // What decides when to stop is not what the run is judged by.
  const parts = every === null ? { train, heldOut: null } : await splitCorpus(train);
  const tokens = await stage(`tokenizing  ${flags.data}`, async (say) => {
    const pack = (corpus: Corpus, what: string) =>
      packCorpus(tokenizer, corpus, {
        onProgress: ({ done, total }) => say(`${what}, ${Math.floor(100 * done / total)} %`),
      });
    return {
      train: await pack(parts.train, "to train on"),
      validation: parts.heldOut && await pack(parts.heldOut, "to validate on"),
      heldOut: await pack(heldOut, "held out"),
    };
  });
  const batches = tokenWindows(tokens.train, flags),
    held = tokenWindows(tokens.heldOut.subarray(0, evaluated), flags).all();
  const validation = every === null
    ? undefined
    : { batches: tokenWindows(tokens.validation!, flags).all(), every };
  const lookEvery = Math.min(10, flags.steps);
  const training = defineTraining(gpu, nextTokenLoss(base), {
    optimizer: chain(
      clipByGlobalNorm(1),
      adamW({
        learningRate: cosine({ peak: rate, warmup: Math.ceil(flags.steps / 20), steps: flags.steps }),
      }),
    ),
    policy,
    steps: flags.steps,
    lookEvery,
    precision: flags.precision,
    validation,
    data: batches.fingerprint,
  });
  print(`model       ${flags.model}, ${base.family.name}`);
  for (const note of base.notes ?? []) print(`note        ${note}`);
  print(
    `data        ${flags.data}, ${batches.count} windows of ${flags.length} tokens, ${held.length} batches held out`,
  );
  if (evaluated < tokens.heldOut.length) {
    print(
      `evaluation  first ${evaluated} of ${tokens.heldOut.length} held-out tokens, as --eval-tokens says`,
    );
  }
  if (validation) print(`validation  ${validation.batches.length} batches, every ${every} steps`);
  print(`policy      ${policy?.name ?? "none"}`);
  print(`rate        ${rate}, ${checkpoint === null || newRate ? why : "that of the run"}`);

  const folder = await claimFolder(out, { resumed, model: flags.model });
  await using _lock = await lockFolder(folder);
  // The look after the checkpoint brings all steps since the one before it once more.
  const upTo = checkpoint === null ? undefined : checkpoint.step - checkpoint.step % lookEvery;
  const log = await openLog(`${folder}/metrics.jsonl`, { upTo });
  const sample = async (model: Model): Promise<{ readonly sample?: string }> =>
    flags["no-sample"] ? {} : { sample: await continueText(gpu, model, { tokenizer, ...flags }) };
  if (checkpoint === null) {
    const before = { perplexity: await perplexity(gpu, base, held), ...await sample(base) };
    const config = { ...flags, out: folder, policy: policy?.name ?? "none" };
    await log.add([{ kind: "start", config, adapter: gpu.name, ...before }]);
  } else print(`resumed     at step ${checkpoint.step} of ${flags.steps}, from ${checkpoint.path}`);
  const [start] = log.lines;
  if (start?.kind !== "start" || start.perplexity === undefined) {
    throw new DataError(
      `Cannot resume as "${folder}/metrics.jsonl" must begin with a start line: it was changed`,
    );
  }
  print(`perplexity  ${start.perplexity.toFixed(2)} before`);
  if (start.sample !== undefined) print(`sample      ${quoted(start.sample)}`);
  print();

  let state = checkpoint === null
    ? await training.init(base.params)
    : await training.resume(checkpoint, { newRate }) as TrainingState<object>;
  const save = (now: TrainingState<object>): Promise<void> =>
    saveCheckpoint(gpu, now, {
      path: lastCheckpoint(folder),
      extra: extraOf("finetune", { flags: { ...flags, out: folder }, policyHash: hash }),
    });
  // A run can be resumed from its very beginning.
  if (checkpoint === null) await save(state);
  const bar = progress(flags.steps, { first: state.step });
  bar.update(state.step, ["compiling the training step"]);
  let clockAt = performance.now(), looked = state.step;
  const signals = catchSignals("finetune");
  for await (state of scan(training, state, batches.from(state.step + 1))) {
    if (log.lines.every(({ kind }) => kind !== "components")) {
      await log.add([{ kind: "components", components: training.components() }]);
    }
    if (state.look !== null) {
      const stepMs = (performance.now() - clockAt) / (state.step - looked);
      [clockAt, looked] = [performance.now(), state.step];
      const tokensPerSecond = Math.round(flags.batch * flags.length / stepMs * 1000);
      await log.add(stepLines(state, { stepMs, tokensPerSecond }));
      bar.update(state.step, [
        `loss ${state.look.loss.at(-1)!.toFixed(3)}`,
        `${tokensPerSecond} tokens/s`,
        `frozen ${state.frozen.length}`,
      ]);
    } else bar.move(state.step);
    if (state.event !== null) {
      await log.add([{ kind: "freeze", ...state.event }]);
      bar.say(freezeText(state.event));
    }
    const signal = signals.caught();
    if ((signal !== null || state.step % flags.checkpoint === 0) && !state.done) await save(state);
    if (signal !== null && !state.done) {
      bar.end();
      throw new InterruptedError(signal, `step ${state.step} is saved: go on with --resume ${folder}`);
    }
  }
  // From here on the run can be ended at any time: the last checkpoint stays until all is written.
  signals[Symbol.dispose]();
  bar.end();

  const trained = { ...base, params: state.params };
  await stage(
    `saving      ${folder}/model`,
    () => saveModel(gpu, trained, { folder: `${folder}/model`, files }),
  );
  const memory = gpu.counts.peakBytes;
  training[Symbol.dispose]();
  free(base.params);
  free(state.params);
  // What is judged is what was saved.
  const saved = await loadShown(gpu, `${folder}/model`);
  const after = { perplexity: await perplexity(gpu, saved, held), ...await sample(saved) };
  await log.add([{ kind: "end", ...after, ...state.ending && { ending: state.ending } }]);
  const components = training.components();
  const [first, last] = [training.costOf([]), state.cost!];
  const summary: [string, string][] = [
    ["Frozen", `${state.frozen.length} of ${components.length} components`],
    ["GFLOP a step", change(first.matmulFlops / 1e9, last.matmulFlops / 1e9, 2)],
    ["Launches a step", change(first.launches, last.launches, 0)],
    ["Traffic a step", `${bytesText(first.bytes)} → ${bytesText(last.bytes)} read and written by kernels`],
    ["Device memory", `${bytesText(memory)} at most, ${bytesText(first.memory)} of it intermediate values`],
    ["Steps", `${state.step} in ${clock(performance.now() - began)}${endingText(state.ending)}`],
    ["Adapter", gpu.name],
  ];
  const worse = after.perplexity > start.perplexity;
  if (worse) summary.push(["Worse than before", WORSE]);
  const threshold = flags.policy === "gradES" ? { signal: flags.metric, tau: flags.tau } : undefined;
  const report = reportOf(log.lines, {
    title: `${flags.model} on ${flags.data}`,
    summary,
    components,
    threshold,
  });
  await hostFileSystem().write(`${folder}/report.html`, await renderReport(report));
  await removeCheckpoint(lastCheckpoint(folder));
  print();
  if (after.sample !== undefined) print(`sample      ${quoted(after.sample)}\n`);
  const lines = [["Perplexity", change(start.perplexity, after.perplexity, 2)], ...summary];
  for (const [label, value] of lines) print(`${label.toLowerCase().padEnd(15)} ${value}`);
  if (worse) print(`${"worse".padEnd(15)} ${WORSE}`, { color: "red" });
  print(`${"written".padEnd(15)} ${folder}/model, metrics.jsonl, report.html`);
}

if (import.meta.main) await runMain(main, "finetune");
