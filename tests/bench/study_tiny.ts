/**
 * The study on random models that take no time: the same code, and no result.
 *
 * @module
 */

import type { Gpu, Model } from "@firn/train";
import { newModel } from "@firn/train/hub";
import { draws } from "../../examples/shuffle.ts";
import type { StudyData, StudyRow } from "./study_data.ts";
import type { SubjectSource } from "./study_models.ts";
import { ARMS, BREADTH_ARMS, type StudyPlan, type StudyTask } from "./study_plan.ts";
import { SCRATCH, SCRATCH_MODELS, SIDE } from "./study_scratch.ts";

const COMMON = { batch: 2, length: 8, rows: 8, rates: [1e-3, 3e-3, 1e-2] } as const;

/** Tasks of each kind. */
const TASKS: readonly StudyTask[] = [
  { name: "tiny-full", model: "smollm2", data: "tokens", rank: null, ...COMMON },
  { name: "tiny-lora", model: "smollm2", data: "tokens", rank: 2, ...COMMON },
  { name: "tiny-encoder", model: "minilm", data: "classes", rank: null, ...COMMON },
  { name: "tiny-classes", model: "smollm2", data: "classes", rank: null, ...COMMON },
];

/** A plan of a few steps. */
export const TINY: StudyPlan = {
  tasks: TASKS,
  arms: ARMS,
  steps: 8,
  look: 2,
  judge: 4,
  tuningSeed: 100,
  finalSeeds: [1, 2],
};

/** All arms of one seed. */
export const TINY_BREADTH: StudyPlan = { ...TINY, arms: BREADTH_ARMS, finalSeeds: [1], untuned: true };

/** Models from nothing, of few layers. */
export const TINY_SCRATCH: StudyPlan = {
  ...TINY,
  tasks: SCRATCH.tasks.map((task) => ({ ...task, batch: 2, rows: 8, length: Math.min(8, task.length) })),
  arms: SCRATCH.arms,
  finalSeeds: [1],
  untuned: true,
};

const CLASSES = ["a", "b"];
const VOCABULARY = 16;
const LAYERS = { hidden_size: 8, intermediate_size: 16, num_hidden_layers: 2, num_attention_heads: 2 };

function sourceOf(model: StudyTask["model"], classes: readonly string[] | null): Record<string, unknown> {
  const labels = classes === null
    ? {}
    : { id2label: Object.fromEntries(classes.map((name, i) => [i, name])) };
  const common = {
    ...LAYERS,
    ...labels,
    vocab_size: VOCABULARY,
    max_position_embeddings: 256,
    pad_token_id: 0,
  };
  if (model === "minilm") {
    return {
      ...common,
      model_type: "bert",
      architectures: ["BertForSequenceClassification"],
      type_vocab_size: 2,
    };
  }
  const architecture = classes === null ? "LlamaForCausalLM" : "LlamaForSequenceClassification";
  return { ...common, model_type: "llama", architectures: [architecture], tie_word_embeddings: true };
}

function rowsOf(count: number, { name, classes }: { name: string; classes: boolean }): StudyRow[] {
  const below = draws(name);
  return Array.from({ length: count }, () => {
    const ids = Array.from({ length: COMMON.length }, () => 1 + below(VOCABULARY - 1));
    return [classes ? ids[0] % CLASSES.length : 2, ...ids];
  });
}

/** Random data. */
function dataOf(classes: boolean): StudyData {
  return {
    classes: classes ? CLASSES : null,
    train: rowsOf(COMMON.rows, { name: "train", classes }),
    validation: rowsOf(2, { name: "validation", classes }),
    test: rowsOf(3, { name: "test", classes }),
  };
}

/** A configuration with all sizes of {@link LAYERS}. */
function shrunken(source: Record<string, unknown>): Record<string, unknown> {
  const sizes: Record<string, unknown> = { ...source, ..."hidden_size" in source && LAYERS };
  for (const key of ["vision_config", "text_config"]) {
    if (key in source) sizes[key] = shrunken(source[key] as Record<string, unknown>);
  }
  return sizes;
}

/** Random data for a model from nothing: digits, or windows of ids. */
function scratchSource(gpu: Gpu, task: StudyTask): SubjectSource {
  const source = shrunken(SCRATCH_MODELS[task.model as keyof typeof SCRATCH_MODELS]),
    below = draws(task.name);
  const digit = (): StudyRow => [below(10), ...Array.from({ length: SIDE ** 2 }, () => below(256))];
  const text = (): StudyRow => [0, ...Array.from({ length: task.length }, () => below(VOCABULARY))];
  const row = task.model === "llama" ? text : digit, rows = (n: number) => Array.from({ length: n }, row);
  const fresh = (seed: number): Promise<Model> => newModel(gpu, { source, seed });
  const data = {
    classes: task.model === "llama" ? null : Array.from({ length: 10 }, (_, i) => `${i}`),
    ...{ train: rows(task.rows), validation: rows(2), test: rows(3) },
  };
  return { task, load: () => fresh(0), fresh, data, memory: null };
}

/** Models and data of {@link TINY}. */
export function tinySources(gpu: Gpu): (task: StudyTask) => Promise<SubjectSource> {
  const made = new Map<string, Promise<Model>>();
  return (task) => {
    if (task.model in SCRATCH_MODELS) return Promise.resolve(scratchSource(gpu, task));
    const load: SubjectSource["load"] = (classes) => {
      const key = `${task.model} ${classes}`;
      if (!made.has(key)) made.set(key, newModel(gpu, { source: sourceOf(task.model, classes), seed: 1 }));
      return made.get(key)!;
    };
    const memory = task.model === "smollm2" ? rowsOf(1, { name: "memory", classes: false }) : null;
    return Promise.resolve({ task, load, data: dataOf(task.data === "classes"), memory });
  };
}
