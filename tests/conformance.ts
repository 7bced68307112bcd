/**
 * Checks folders of reference results: `deno run <permissions> tests/conformance.ts [--tiles] DIR...`
 *
 * A folder holds a model (`config.json`, `model.safetensors`) and what another implementation computed for it:
 * `golden.json` with `golden.safetensors` (logits, gradients, parameters and losses of five AdamW steps, with and
 * without clipping, and of a LoRA `adapter/`), `grades.json` (a run of GradES), or `generate.json` (tokens that follow
 * prompts: `generated` tells whether all are the same, in a batch and alone). Prints one JSON line a folder with the
 * largest relative errors, null where the folder has no such data. Exit status 1 when any folder is not ok.
 *
 * The batch holds token ids, images, or both; the head tells whether labels are next tokens or classes.
 *
 * Logits are compared only where `input.attention_mask` is 1, if there is a mask. Parameters after five steps are compared
 * only where the first gradient is above 1e-6 of the largest of its tensor: below, it is rounding noise, and the sign of
 * Adam's first step is arbitrary. A whole tensor may be such noise, as the bias of keys before a softmax is: its gradients
 * must be as small.
 *
 * With `--tiles`, each folder is checked once for every tile of matrix products, whatever the adapter would choose: first
 * with whole sums, then with sums split over three workgroups. A line then has `tile`, such as `"64x64x16 split 3"`. A
 * small model takes some seconds a tile on a software adapter.
 *
 * @module
 */

import {
  adamW,
  chain,
  clipByGlobalNorm,
  defineTraining,
  flatten,
  type Gpu,
  grad,
  type HostData,
  logits,
  type Model,
  openGpu,
  type Optimizer,
  type Path,
  type Precision,
  readAll,
  scan,
  tensor,
  type TrainingState,
} from "@firn/train";
import { openSafetensors } from "@firn/train/data";
import { loadAdapter, loadModel } from "@firn/train/hub";
import { gradES } from "@firn/train/policies";
import { runMain, UsageError } from "../examples/flags.ts";
import { providerOf } from "../examples/gpu.ts";
import { print, printError } from "../examples/print.ts";
import { compare, compareAll, compareEach } from "./conformance_compare.ts";
import { asked, USAGE } from "./conformance_flags.ts";
import {
  type Batch,
  type ConformModel,
  type Inputs,
  lossOf,
  pathsByName,
  readInputs,
} from "./conformance_inputs.ts";
import { checkGenerated, type Generated } from "./conformance_generate.ts";
import { cutAll } from "./plan/cut.ts";
import { tiles as everyTile } from "./kernels/matmul_reference.ts";

/** Largest errors that float32 explains, as shares of the largest value of the same tensor. */
export const TOLERANCES = {
  logits: 1e-5,
  loss: 1e-5,
  grads: 1e-4,
  after5: 1e-4,
  losses_plain: 1e-5,
  losses_clip: 1e-5,
  lora_logits: 1e-5,
  lora_grads: 1e-4,
  lora_after5: 1e-4,
  losses_lora: 1e-5,
  losses: 1e-4,
  losses_no_freeze: 1e-4,
  metric_values: 1e-3,
  first_logprobs: 1e-5,
} as const;

type Quantity = keyof typeof TOLERANCES;

/** A line of the report: errors, and for GradES folders where each component froze. */
export type Line = { readonly name: string; readonly ok: boolean } & Readonly<Record<string, unknown>>;

interface Golden {
  readonly loss: number;
  readonly adamw: {
    readonly lr: number;
    readonly betas: readonly [number, number];
    readonly eps: number;
    readonly weight_decay: number;
  };
  readonly losses_plain?: readonly number[];
  readonly losses_clip?: readonly number[];
  readonly clip_clip?: number;
  readonly losses_lora?: readonly number[];
  /** Prefixes of tensors that are not stored, to keep a file small. */
  readonly left_out?: readonly string[];
}

interface GradES {
  readonly metric: "norm" | "delta";
  readonly tau: number;
  readonly alpha: number;
  readonly steps: number;
  readonly optimizer: Golden["adamw"];
  readonly batches: readonly (readonly (readonly number[])[])[];
  readonly losses: readonly number[];
  readonly losses_no_freeze: readonly number[];
  readonly metric_per_step: readonly Readonly<Record<Path, number | null>>[];
  readonly frozen_at: Readonly<Record<Path, number>>;
}

/**
 * Checks one folder.
 *
 * @param gpu The device
 * @param folder The folder
 * @param options Precision of trainings; f32 when absent
 * @returns Its line
 */
export async function conform(
  gpu: Gpu,
  folder: string,
  { precision = "f32" }: { readonly precision?: Precision } = {},
): Promise<Line> {
  const name = folder.replace(/\/+$/, "").split("/").at(-1)!;
  const errors: Partial<Record<Quantity, number>> = {};
  let extra: Readonly<Record<string, unknown>> = { frozen_at: null, metric: null };
  const golden = await readIfThere<Golden>(`${folder}/golden.json`);
  let model: ConformModel;
  try {
    model = await loadModel(gpu, folder);
    if (golden !== null) {
      const inputs = await readInputs(folder);
      Object.assign(errors, await checkGolden(gpu, { folder, model, golden, precision, ...inputs }));
    }
  } catch (error) {
    return { name, ok: false, error: (error as Error).message };
  }
  const grades = await readIfThere<GradES>(`${folder}/grades.json`);
  if (grades !== null) {
    const found = await checkGradES(gpu, { model, grades, precision });
    Object.assign(errors, found.errors);
    extra = found.extra;
  }
  const generate = await readIfThere<Generated>(`${folder}/generate.json`);
  if (generate !== null) {
    const { first_logprobs, ...found } = await checkGenerated(gpu, model as Model, generate);
    if (first_logprobs !== null) errors.first_logprobs = first_logprobs;
    extra = { ...extra, ...found };
  }
  const within = Object.entries(errors).every(([key, e]) =>
    e === undefined || e <= TOLERANCES[key as Quantity]
  );
  const compared = golden !== null || grades !== null || generate !== null;
  const ok = compared && within && extra.frozen_matches !== false && extra.generated !== false;
  const quantities = Object.keys(TOLERANCES).map((key) => {
    const error = errors[key as Quantity] ?? null;
    return [key, error === Infinity ? "names, sizes or NaN differ" : error];
  });
  return { name, ok, ...Object.fromEntries(quantities), ...extra };
}

async function readIfThere<T>(path: string): Promise<T | null> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    throw error;
  }
}

async function checkGolden(
  gpu: Gpu,
  { folder, model, golden, precision, batch, mask }: Inputs & {
    folder: string;
    model: ConformModel;
    golden: Golden;
    precision: Precision;
  },
): Promise<Partial<Record<Quantity, number>>> {
  await using file = await openSafetensors(`${folder}/golden.safetensors`);
  const pathOf = pathsByName(model);
  const check = async (subject: ConformModel, prefix: string): Promise<[number, number, number]> => {
    const leaves = [...flatten(subject.params)].filter(([path]) => subject.trainable?.(path) ?? true);
    const loss = lossOf(subject)(subject.params, batch);
    const [scores, value, ...grads] = await readAll(gpu, [
      logits(subject as Model<object, Batch>, batch),
      loss,
      ...grad(loss, leaves.map(([, t]) => t)),
    ]);
    const gradErrors = await compareAll(file, leaves.map(([path], i) => [path, grads[i]]), {
      prefix: `${prefix}grad.`,
      pathOf,
    });
    // A mask covers positions, and the scores of a class of a whole sequence have none.
    const rows = file.specs.get(`${prefix}logits`)!.shape.length === 3 ? mask : undefined;
    const counts = (i: number): boolean => rows?.[Math.floor(i / (scores.length / rows.length))] ?? true;
    const error = compare(scores, await file.readF32(`${prefix}logits`), counts);
    return [error, value[0], gradErrors];
  };
  const five = async (
    subject: ConformModel,
    clip: number | null,
  ): Promise<{ losses: number[]; params: [Path, HostData][] }> => {
    const states = await run(gpu, {
      model: subject,
      optimizer: optimizerOf(golden.adamw, clip),
      batches: Array(5).fill(batch),
      precision,
    });
    const trained = [...flatten(states.last.params)].filter(([path]) => subject.trainable?.(path) ?? true);
    const values = await readAll(gpu, trained.map(([, t]) => t));
    return { losses: states.losses, params: trained.map(([path], i) => [path, values[i]]) };
  };

  const [logitsError, loss, grads] = await check(model, "");
  const plain = await five(model, null);
  const after = async (prefix: string, params: readonly [Path, HostData][]): Promise<number | undefined> =>
    golden.left_out?.includes(`${prefix}after5`)
      ? undefined
      : await compareAll(file, params, { prefix: `${prefix}after5.`, gradients: `${prefix}grad.`, pathOf });
  const errors: Partial<Record<Quantity, number>> = {
    logits: logitsError,
    loss: compare([loss], [golden.loss]),
    grads,
    after5: await after("", plain.params),
  };
  if (golden.losses_plain !== undefined) errors.losses_plain = compareEach(plain.losses, golden.losses_plain);
  if (golden.losses_clip !== undefined) {
    errors.losses_clip = compareEach((await five(model, golden.clip_clip!)).losses, golden.losses_clip);
  }
  if (golden.losses_lora !== undefined) {
    const adapted = withoutDropout(await loadAdapter(gpu, model, `${folder}/adapter`));
    const [loraLogits, , loraGrads] = await check(adapted, "lora.");
    const trained = await five(adapted, null);
    errors.lora_logits = loraLogits;
    errors.lora_grads = loraGrads;
    errors.lora_after5 = await after("lora.", trained.params);
    errors.losses_lora = compareEach(trained.losses, golden.losses_lora);
  }
  return errors;
}

/** An adapter as it is evaluated: what other implementations drop, nobody can draw again. */
function withoutDropout(model: ConformModel): ConformModel {
  const adapter = model.adapter!;
  const layers = new Map([...adapter.layers].map(([path, { scale }]) => [path, { scale }]));
  return { ...model, adapter: { ...adapter, layers } };
}

async function checkGradES(
  gpu: Gpu,
  { model, grades, precision }: { model: ConformModel; grades: GradES; precision: Precision },
): Promise<{ errors: Partial<Record<Quantity, number>>; extra: Record<string, unknown> }> {
  const batches = Array.from({ length: grades.steps }, (_, i): Batch => {
    const rows = grades.batches[i % grades.batches.length];
    const ids = tensor(Int32Array.from(rows.flat()), [rows.length, rows[0].length]);
    return { inputIds: ids, labels: ids };
  });
  const { tau, alpha } = grades, optimizer = optimizerOf(grades.optimizer, null);
  const metric = grades.metric === "norm" ? "gradNorm" : "gradDelta";
  const frozen = await run(gpu, {
    model,
    optimizer,
    batches,
    precision,
    policy: gradES({ tau, alpha, metric }),
  });
  const free = await run(gpu, { model, optimizer, batches, precision });
  let metricError = 0;
  frozen.readings.forEach((readings, i) => {
    for (const [path, expected] of Object.entries(grades.metric_per_step[i])) {
      const seen = readings[metric]![path.replace(/\.weight$/, "")][0];
      // A reading that only one side has is an infinite error.
      const error = expected === null
        ? (Number.isNaN(seen) ? 0 : Infinity)
        : Math.abs(seen - expected) / Math.abs(expected);
      metricError = Math.max(metricError, Number.isNaN(error) ? Infinity : error);
    }
  });
  const wanted = Object.fromEntries(
    Object.entries(grades.frozen_at).map(([path, at]) => [path.replace(/\.weight$/, ""), at]),
  );
  const sorted = (record: Record<string, number>): string =>
    JSON.stringify(Object.entries(record).toSorted());
  return {
    errors: {
      losses: compareEach(frozen.losses, grades.losses),
      losses_no_freeze: compareEach(free.losses, grades.losses_no_freeze),
      metric_values: metricError,
    },
    extra: { frozen_at: frozen.frozenAt, frozen_matches: sorted(frozen.frozenAt) === sorted(wanted), metric },
  };
}

function optimizerOf({ lr, betas, eps, weight_decay }: Golden["adamw"], clip: number | null): Optimizer {
  const adam = adamW({ learningRate: lr, beta1: betas[0], beta2: betas[1], eps, weightDecay: weight_decay });
  return clip === null ? adam : chain(clipByGlobalNorm(clip), adam);
}

async function run(
  gpu: Gpu,
  { model, optimizer, batches, policy, precision }: {
    model: ConformModel;
    optimizer: Optimizer;
    batches: readonly Batch[];
    policy?: ReturnType<typeof gradES>;
    precision: Precision;
  },
): Promise<{
  losses: number[];
  readings: NonNullable<TrainingState<object>["look"]>["readings"][];
  frozenAt: Record<Path, number>;
  last: TrainingState<object>;
}> {
  const training = defineTraining(gpu, lossOf(model), {
    optimizer,
    policy,
    precision,
    steps: batches.length,
    lookEvery: policy === undefined ? batches.length : 1,
  });
  let last = await training.init(model.params);
  const losses: number[] = [], readings = [], frozenAt: Record<Path, number> = {};
  for await (const state of scan(training, last, batches)) {
    last = state;
    losses.push(...state.look?.loss ?? []);
    if (state.look !== null) readings.push(state.look.readings);
    for (const path of state.event?.frozen ?? []) frozenAt[path] = state.step;
  }
  return { losses, readings, frozenAt, last };
}

/**
 * Checks folders, one after the other.
 *
 * @param gpu The device
 * @param options The folders, and whether to check each with every tile
 * @returns A line a folder, or a line a folder and tile
 */
export async function* conformAll(
  gpu: Gpu,
  { folders, tiles, precision }: {
    readonly folders: readonly string[];
    readonly tiles: boolean;
    readonly precision?: Precision;
  },
): AsyncGenerator<Line> {
  for (const folder of folders) {
    if (!tiles) {
      yield await conform(gpu, folder, { precision });
      continue;
    }
    for (const variant of [1, 3].flatMap(everyTile)) {
      const { bm, bn, bk, split } = variant;
      yield { ...await conform(cutAll(gpu, variant), folder), tile: `${bm}x${bn}x${bk} split ${split}` };
    }
  }
}

/** Runs a command line. */
export async function main(args: readonly string[]): Promise<void> {
  const { folders, tiles, help, device, precision } = asked(args);
  if (help) return print(USAGE);
  if (folders.length === 0) throw new UsageError("name the folders of reference results");
  await using gpu = await openGpu(providerOf(device));
  printError(`${gpu.name}${gpu.software ? " (software)" : ""}`);
  for await (const line of conformAll(gpu, { folders, tiles, precision })) {
    print(JSON.stringify(line));
    if (!line.ok) Deno.exitCode = 1;
  }
}

if (import.meta.main) await runMain(main, "conformance");
