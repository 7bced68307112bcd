/**
 * The models of the study: loaded once, and given to each run with a head or an adapter of its seed.
 *
 * @module
 */

import {
  type ClassBatch,
  classLoss,
  flatten,
  free,
  type Gpu,
  type Loss,
  type Model,
  nextTokenLoss,
  type Tensor,
  tensor,
  type TokenBatch,
  unflatten,
} from "@firn/train";
import { classAccuracy } from "@firn/train/evaluation";
import { loadModel, newAdapter, newModel } from "@firn/train/hub";
import { normalValues } from "../../kernels/random.ts";
import { type Evaluation, recordEvaluation } from "../../core/infer/evaluate.ts";
import { storageOf } from "../../core/runtime/residents.ts";
import { copyToDevice } from "../../core/train/state/upload.ts";
import { everyBatch, kindOf, type StudyBatch, type StudyData, type StudyRow } from "./study_data.ts";
import type { StudyTask } from "./study_plan.ts";
import { SCRATCH_MODELS } from "./study_scratch.ts";
import type { SharedTraining } from "./study_trainings.ts";

/** What runs need of a task. */
export interface Subject {
  readonly task: StudyTask;
  readonly data: StudyData;
  readonly padding: number;
  readonly loss: Loss<object, StudyBatch>;
  /** Parameters of which the loss trains some, or all. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** The parameters of a seed; what the seed drew is freed by {@link Subject.release}. */
  paramsOf(seed: number): Promise<object>;
  release(params: object): void;
  /** Quality of parameters on a part, with the loss. */
  judge(params: object, part: Part): Promise<Judgement>;
  /** Quality alone, which takes half of the time where it is not the loss. */
  quality(params: object, part: Part): Promise<number>;
  /** Quality and perplexity before the first step of a seed, which are the same for all of its runs. */
  start(params: object, seed: number): Promise<Start>;
  /** Trainings that runs share, by what they train. */
  readonly trainings: Map<string, SharedTraining>;
  /** Loss alone, on the first rows of the validation part, which early stopping pays for. */
  validationLoss(params: object): Promise<number>;
  /** Perplexity of the State of the Union; null for a model that predicts no tokens. */
  perplexity(params: object): Promise<number | null>;
}

/** How good parameters are: accuracy, else minus the loss. */
export interface Judgement {
  readonly quality: number;
  readonly loss: number;
}

/** A part that is judged by. */
type Part = "validation" | "test";

/** What is known before the first step. */
export interface Start {
  readonly quality: number;
  readonly perplexity: number | null;
}

/** What a subject is made of. */
export interface SubjectSource {
  readonly task: StudyTask;
  /** Loads the base with a head of so many classes, or that for the next token. */
  load(classes: readonly string[] | null): Promise<Model>;
  /** Makes the model with random weights of a seed; absent where training begins with those of the base. */
  fresh?(seed: number): Promise<Model>;
  readonly data: StudyData;
  /** Rows of the State of the Union for the same tokenizer; null where there are none. */
  readonly memory: readonly StudyRow[] | null;
}

/** Deviation of a new head: `initializer_range` of both models. */
const HEAD = 0.02;
/** Tokens that early stopping judges by, about as many as four steps take. */
const STOPPING = 8192;
/** Tokens in a row of the State of the Union, and rows in a batch. */
const MEMORY = { batch: 8, length: 256 };

/**
 * Prepares a task: its model stays on the device, evaluations are recorded once and read copies of the weights.
 *
 * @param gpu The device
 * @param source Model and data
 * @returns The subject
 */
export async function openSubject(gpu: Gpu, source: SubjectSource): Promise<Subject> {
  const { task, load, fresh, data, memory } = source;
  const base = await load(data.classes);
  const adapted = async (seed: number): Promise<Model> =>
    task.rank === null
      ? base
      : await newAdapter(gpu, base, { rank: task.rank, alpha: 2 * task.rank, targets: ["*_proj"], seed });
  const model = await adapted(0), known = flatten(model.params), bases = flatten(base.params);
  const loss = lossOf(model);
  const trained = [...known.keys()].filter((path) => loss.trainable?.(path) ?? true);
  const shown = new Map<string, Tensor>();
  for (const [path, source] of known) {
    shown.set(path, trained.includes(path) ? await copyToDevice(gpu, { path, source }) : source);
  }
  const show = shower(gpu, { shown, trained });
  const params = unflatten(shown), padding = Number(base.source.pad_token_id ?? 0);
  const sizes = { ...task, padding, kind: kindOf(task.model, data) };
  const rated = sizes.kind === "classes" || sizes.kind === "images";
  const recorded = async (part: Part) => {
    const batches = everyBatch(data[part], sizes);
    const means = [
      loss,
      ...rated ? [classAccuracy(model).mean as Loss<object, StudyBatch>] : [],
    ];
    return await Promise.all(means.map((mean) => recordEvaluation(gpu, { loss: mean, params, batches })));
  };
  const parts = { validation: await recorded("validation"), test: await recorded("test") };
  const early = await recordEvaluation(gpu, {
    ...{ loss, params },
    batches: everyBatch(data.validation.slice(0, Math.ceil(STOPPING / task.length)), sizes),
  });
  const past = memory === null ? null : await recordEvaluation(gpu, {
    loss: nextTokenLoss(data.classes === null ? model : await load(null)),
    params: causalParams(shown),
    batches: everyBatch(memory, { ...MEMORY, padding, kind: "tokens" }) as TokenBatch[],
  });
  const head = fresh !== undefined
    ? undefined
    : [...bases.keys()].find((path) => /^(score|classifier)\.weight$/.test(path));

  const quality = async (params: object, part: Part): Promise<number> => {
    show(params);
    const last = parts[part].at(-1)!, [value] = await runAll([last]);
    return rated ? value : -value;
  };
  const perplexity = async (params: object): Promise<number | null> => {
    if (past === null) return null;
    show(params);
    return Math.exp((await past.run()).loss);
  };
  const starts = new Map<number, Start>();

  return {
    task,
    data,
    padding,
    loss,
    trainings: new Map(),
    parameters: new Map(trained.map((path) => [path, known.get(path)!])),
    async paramsOf(seed) {
      if (fresh !== undefined) return (await fresh(seed)).params;
      if (task.rank !== null) return (await adapted(seed)).params;
      if (data.classes === null || head === undefined) return base.params;
      const { shape } = bases.get(head)!, size = shape.reduce((a, b) => a * b, 1);
      const values = normalValues({ size, key: [seed, 77] }).map((x) => HEAD * x);
      return unflatten(new Map([...bases, [head, tensor(values, shape)]]));
    },
    release(params) {
      const own = [...flatten(params)].filter(([path, t]) => bases.get(path) !== t && path !== head);
      if (own.length > 0) free(Object.fromEntries(own));
    },
    async judge(params, part) {
      show(params);
      const [loss, accuracy] = await runAll(parts[part]);
      return { loss, quality: accuracy ?? -loss };
    },
    async validationLoss(params) {
      show(params);
      return (await early.run()).loss;
    },
    quality,
    perplexity,
    async start(params, seed) {
      const known = starts.get(seed);
      if (known !== undefined) return known;
      const found = { quality: await quality(params, "test"), perplexity: await perplexity(params) };
      starts.set(seed, found);
      return found;
    },
  };
}

async function runAll(evaluations: readonly Evaluation[]): Promise<number[]> {
  const values: number[] = [];
  for (const evaluation of evaluations) values.push((await evaluation.run()).loss);
  return values;
}

/** The loss, without dropout: what a frozen bottom computes of a text is the same in each epoch only without it. */
function lossOf(model: Model): Loss<object, StudyBatch> {
  const { task } = model.family.heads[model.architecture];
  return task === "nextToken"
    ? nextTokenLoss(model) as Loss<object, StudyBatch>
    : classLoss<object, ClassBatch>(model as never, { dropout: 0 }) as unknown as Loss<object, StudyBatch>;
}

/** The parameters without a head for classes: that for the next token is tied to the embedding. */
function causalParams(shown: ReadonlyMap<string, Tensor>): object {
  return unflatten(new Map([...shown].filter(([path]) => !path.startsWith("score."))));
}

/** Copies the trained weights to those that evaluations read. */
function shower(
  gpu: Gpu,
  { shown, trained }: { readonly shown: ReadonlyMap<string, Tensor>; readonly trained: readonly string[] },
): (params: object) => void {
  return (params) => {
    const encoder = gpu.device.createCommandEncoder(), leaves = flatten(params);
    for (const path of trained) {
      const to = storageOf(shown.get(path)!).buffer;
      encoder.copyBufferToBuffer(storageOf(leaves.get(path)!).buffer, 0, to, 0, to.size);
    }
    gpu.device.queue.submit([encoder.finish()]);
  };
}

/** Makes the model of a task with random weights of a seed; undefined for a task that begins with those of a folder. */
export function freshOf(
  gpu: Gpu,
  { model }: Pick<StudyTask, "model">,
): ((seed: number) => Promise<Model>) | undefined {
  if (!(model in SCRATCH_MODELS)) return undefined;
  return (seed) => newModel(gpu, { source: SCRATCH_MODELS[model as keyof typeof SCRATCH_MODELS], seed });
}

/** Loads the models of a folder, each of them once for each head. Those without a file have random weights. */
export function modelsIn(
  gpu: Gpu,
  folder: string,
): (name: StudyTask["model"]) => SubjectSource["load"] {
  const heads = {
    smollm2: "LlamaForSequenceClassification",
    minilm: "BertForSequenceClassification",
  } as const;
  const loaded = new Map<string, Promise<Model>>();
  return (name) => (classes) => {
    const key = `${name} ${classes?.join()}`;
    const make = (): Promise<Model> => {
      if (name !== "smollm2" && name !== "minilm") return freshOf(gpu, { model: name })!(0);
      const options = classes === null ? {} : { architecture: heads[name], labels: classes };
      return loadModel(gpu, `${folder}/${name}`, options);
    };
    if (!loaded.has(key)) loaded.set(key, make());
    return loaded.get(key)!;
  };
}
