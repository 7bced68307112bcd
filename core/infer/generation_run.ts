/**
 * The buffers and recordings of generation on a device.
 *
 * @module
 */

import { type Model, outputOf } from "../models/model.ts";
import type { Gpu } from "../runtime/device.ts";
import { type KernelTime, profile } from "../runtime/profile.ts";
import { readBuffers } from "../runtime/readback.ts";
import { record, type Recording } from "../runtime/record.ts";
import { checkUnconsumed } from "../runtime/residents.ts";
import { joinedRows } from "./cached.ts";
import {
  type GenerationGraph,
  type GraphOptions,
  promptGraph,
  stepGraph,
  UNREAD,
} from "./generation_graph.ts";
import { type LeafBuffers, leafBuffers, pathOf } from "./leaf_buffers.ts";
import { type PromptChunk, promptChunks, type Text } from "./prompt_chunks.ts";
import { planFor } from "./read.ts";
import { sizeOf } from "../spec.ts";
import { noteValues, type Sampling, samplingValues } from "./sampling.ts";

/** Generation of some sequences at once. Its steps feed each other on the device. */
export interface GenerationRun {
  /** Sizes and steps. */
  readonly options: GraphOptions;
  /** Lengths beyond which a sequence must be read again; known once there is a recording. */
  readonly switches: readonly number[];
  /** Reads what the cache does not hold of some texts, and draws the first unread token of each. */
  prompt(texts: readonly Text[], samplings: readonly Sampling[]): Promise<void>;
  /** Draws a further token, where so many are unread. */
  step(unread: number): Promise<void>;
  /** The same as {@link step}, with the time of each launch. */
  profile(unread: number): Promise<KernelTime[]>;
  /** The unread tokens, a row for each of so many steps, see `Choice.log`; and what is told of them, null for nothing. */
  read(count: number): Promise<{ readonly drawn: Float32Array; readonly told: Float32Array | null }>;
  /** Throws if a training step consumed the parameters. */
  check(): void;
  /** A run with a larger cache that holds what this one does; this one is no longer usable. */
  grow(capacity: number): GenerationRun;
  /** Frees all buffers. */
  destroy(): void;
}

/** A recorded graph. */
interface Recorded {
  readonly graph: GenerationGraph;
  readonly recording: Recording;
}

/**
 * Makes a run.
 *
 * @param gpu The device
 * @param model The model
 * @param options Sizes and steps; `buffers`: those of a smaller run
 * @returns The run
 */
export function generationRun(
  gpu: Gpu,
  model: Model,
  { buffers = leafBuffers(gpu), ...options }: GraphOptions & { readonly buffers?: LeafBuffers },
): GenerationRun {
  const { capacity } = options, [vocab] = outputOf(model).weight.shape;
  const recorded = new Map<number, Recorded>();
  let now: Recorded | null = null;
  /** The recording that reads so many tokens of each text; that of a step for none. */
  async function recordingFor(time: number): Promise<Recorded> {
    if (!recorded.has(time)) {
      const graph = time === 0 ? stepGraph(model, options) : promptGraph(model, { ...options, time });
      const plan = planFor(gpu, graph.roots, graph.updates), label = time === 0 ? "step" : `prompt ${time}`;
      recorded.set(time, { graph, recording: await record(gpu, { plan, resolve: buffers.of, label }) });
    }
    return now = recorded.get(time)!;
  }
  function replay({ recording }: Recorded, step: number): void {
    checkUnconsumed(recording.plan);
    recording.replay(step);
  }
  function destroyRecordings(): void {
    recorded.forEach(({ recording }) => recording.destroy());
    recorded.clear();
  }
  return {
    options,
    get switches() {
      return now?.graph.switches ?? [];
    },
    async prompt(texts, samplings) {
      const chunks = promptChunks(texts, { capacity }), found = await recordingFor(chunks[0].time);
      const sizes = { ...options, vocab };
      const values = { ...samplingValues(samplings, sizes), ...noteValues(texts, sizes) };
      for (const [path, data] of Object.entries(values)) buffers.write(path, data);
      buffers.write("prompt.lengths", Int32Array.from(texts, ({ tokens }) => tokens.length));
      buffers.write(
        "prompt.places",
        Int32Array.from(texts, ({ tokens, dropped }) => tokens.length + dropped),
      );
      for (const chunk of chunks) {
        writeChunk(buffers, { chunk, texts, graph: found.graph });
        replay(found, 1);
      }
      buffers.write("position", Int32Array.from(texts, ({ tokens }) => tokens.length));
    },
    step: async (unread) => replay(await recordingFor(0), unread + 1),
    async profile(unread) {
      const { recording } = await recordingFor(0);
      checkUnconsumed(recording.plan);
      return await profile(gpu, { recording, step: unread + 1 });
    },
    async read(count) {
      const { log, told } = now!.graph;
      const read = await readBuffers(
        gpu,
        [log, ...told === null ? [] : [told]].map((leaf) => ({
          buffer: buffers.of(leaf),
          bytes: 4 * count * sizeOf(leaf.shape) / UNREAD,
        })),
      );
      const [drawn, more = null] = read.map((bytes) => new Float32Array(bytes));
      return { drawn, told: more };
    },
    check: () => now && checkUnconsumed(now.recording.plan),
    grow(larger) {
      const { growing } = now!.graph;
      destroyRecordings();
      buffers.grow(growing, larger);
      return generationRun(gpu, model, { ...options, capacity: larger, buffers });
    },
    destroy() {
      destroyRecordings();
      buffers.destroy();
    },
  };
}

/** Writes the tokens of a chunk, and angles that depend on the lengths of texts. */
function writeChunk(
  { write }: LeafBuffers,
  { chunk, texts, graph }: {
    readonly chunk: PromptChunk;
    readonly texts: readonly Text[];
    readonly graph: GenerationGraph;
  },
): void {
  const { time, ...places } = chunk;
  for (const [name, values] of Object.entries(places)) write(`prompt.${name}`, values);
  for (const { config, leaf } of graph.angles) {
    const ofToken = Array.from(places.positions, (position, i) => ({
      position,
      length: texts[Math.floor(i / time)].tokens.length,
    }));
    write(pathOf(leaf), joinedRows(config, ofToken));
  }
}
