/**
 * What the reference finds of pairs, computed once before training.
 *
 * @module
 */

import { readJson } from "../host/json_file.ts";
import type { FileSystemOptions } from "../host/file_system.ts";
import { hostFileSystem } from "../host/host_file_system.ts";
import type { Sample } from "../data/samples/sample.ts";
import { fingerprint, wordsOf as wordsOfText } from "../fingerprint.ts";
import { type AskedText, logProbabilities } from "../infer/log_probabilities.ts";
import type { Model } from "../models/model.ts";
import { fingerprintOf } from "../models/tasks.ts";
import { withoutAdapter } from "../models/with_adapter.ts";
import type { Gpu, OnProgress } from "../runtime/device.ts";
import { wordsOf } from "./pair_batches.ts";
import type { SamplePair } from "./pair_samples.ts";

/** Options of {@link withReference}. */
export interface ReferenceOptions extends FileSystemOptions {
  /** Rows of a pass; 8 when absent. */
  readonly batch?: number;
  /** A folder that keeps what was computed, under a name that follows from pairs and model; nothing is kept when absent. */
  readonly cache?: string;
  /** Called with the answers that are done, about twice a second. */
  readonly onProgress?: OnProgress;
}

/** Answers that tell one model from another. */
const PROBES = 8;

/** Answers of a pass, whose results are on the device at a time. */
const AT_ONCE = 4096;

/**
 * Computes how likely the reference finds both answers of pairs. The reference is the model without its adapter: a LoRA policy
 * needs no second copy of its base.
 *
 * A kept result is found again by its pairs, the configuration of the model, and what the model finds of the first answers, which
 * is computed each time: other weights have another result.
 *
 * @param gpu The device
 * @param model The model, before training
 * @param options The pairs, and where results are kept
 * @returns The pairs with their `reference`
 * @throws {InputError} When the model does not predict tokens
 */
export async function withReference(
  gpu: Gpu,
  model: Model,
  { pairs, batch, cache, onProgress, fileSystem = hostFileSystem() }: ReferenceOptions & {
    readonly pairs: readonly SamplePair[];
  },
): Promise<readonly SamplePair[]> {
  const base = withoutAdapter(model), samples = pairs.flatMap(({ first, second }) => [first, second]);
  const compute = async (begin: number, end: number): Promise<readonly number[]> =>
    await sumsOf(gpu, base, {
      samples: samples.slice(begin, end),
      batch,
      onProgress: onProgress && (({ done }) => onProgress({ done: begin + done, total: samples.length })),
    });
  if (cache === undefined) return joined(pairs, await inParts(compute, samples.length));
  const probes = new Float32Array(await compute(0, Math.min(PROBES, samples.length)));
  const key = fingerprint([...wordsOf(pairs), wordsOfText(fingerprintOf(base, { dropout: 0 })), probes]);
  const path = `${cache}/reference-${key}.json`;
  if (await fileSystem.stat(path) !== null) {
    const { values } = await readJson(path, { fileSystem });
    if (isResult(values, samples.length)) return joined(pairs, values);
  }
  const values = await inParts(compute, samples.length);
  await fileSystem.makeFolder(cache, { parents: true });
  await fileSystem.write(path, JSON.stringify({ values }));
  return joined(pairs, values);
}

/** Whether a file holds a number for each answer. Any other, such as one that was cut, is written anew. */
function isResult(values: unknown, count: number): values is readonly number[] {
  return Array.isArray(values) && values.length === count &&
    values.every((value) => typeof value === "number");
}

async function inParts(
  compute: (begin: number, end: number) => Promise<readonly number[]>,
  count: number,
): Promise<readonly number[]> {
  const values: number[] = [];
  for (let begin = 0; begin < count; begin += AT_ONCE) {
    values.push(...await compute(begin, Math.min(begin + AT_ONCE, count)));
  }
  return values;
}

function joined(pairs: readonly SamplePair[], values: readonly number[]): readonly SamplePair[] {
  return pairs.map((pair, i) => ({ ...pair, reference: [values[2 * i], values[2 * i + 1]] }));
}

/** Sums of log-probabilities of the learned tokens of each sample. */
async function sumsOf(
  gpu: Gpu,
  model: Model,
  { samples, ...options }: {
    readonly samples: readonly Sample[];
    readonly batch?: number;
    readonly onProgress?: OnProgress;
  },
): Promise<readonly number[]> {
  const texts = samples.map(({ ids, learned }): AskedText => ({
    ids: [...ids],
    from: Math.max(1, learned.indexOf(1, 1)),
  }));
  const found = await logProbabilities(gpu, model, { texts, ...options });
  return samples.map(({ learned }, i) => {
    const { from } = texts[i];
    return found[i].reduce((sum, value, t) => learned[from + t] === 1 ? sum + value : sum, 0);
  });
}
